models: [{name: m}]
seed: one
methods: [{name: fp32, tau: 3}]
unknwon: 1
