package sim

import (
	"fmt"
	"math"
)

// A Channel is the radio link of one device: Rayleigh block fading with one fade per attempt (arXiv
// 2511.04002, section 2.4.2), or a link of a fixed rate.
type Channel struct {
	BandwidthHz float64 // W
	SNR         float64 // gamma, linear
	Gain        float64 // sigma_h^2, mean power gain of the fading; 0: 1
	Outage      float64 // epsilon, target outage probability of a message, in (0, 1)
	// FixedRate, in bits per second, replaces all of the above where it is not 0: a message then takes its
	// size divided by it.
	FixedRate float64
}

// PaperChannel is the channel of the paper's experiments (section 3): 10 MHz, an SNR of 10, an outage of
// 0.001.
func PaperChannel() Channel { return Channel{BandwidthHz: 10e6, SNR: 10, Gain: 1, Outage: 1e-3} }

func (c Channel) check() error {
	if c.FixedRate != 0 {
		if !(c.FixedRate > 0) || math.IsInf(c.FixedRate, 0) {
			return fmt.Errorf("sim: the rate is %v bit/s, expected more than 0", c.FixedRate)
		}
		return nil
	}
	for _, f := range []struct {
		name  string
		value float64
	}{{"bandwidth", c.BandwidthHz}, {"SNR", c.SNR}, {"gain", c.gain()}} {
		if !(f.value > 0) || math.IsInf(f.value, 0) {
			return fmt.Errorf("sim: %s is %v, expected more than 0", f.name, f.value)
		}
	}
	if !(c.Outage > 0 && c.Outage < 1) {
		return fmt.Errorf("sim: target outage is %v, expected between 0 and 1", c.Outage)
	}
	return nil
}

func (c Channel) gain() float64 {
	if c.Gain == 0 {
		return 1
	}
	return c.Gain
}

// OutageProbability returns Po(R) of Eq. 10: the probability that an attempt at a rate in bits per second fails.
func (c Channel) OutageProbability(rate float64) float64 {
	return -math.Expm1(-math.Expm1(rate/c.BandwidthHz*math.Ln2) / (c.SNR * c.gain()))
}

// corner returns the highest rate, in bits per second, at which attempts suffice for the target outage:
// Po(R)^attempts = epsilon.
func (c Channel) corner(attempts int) float64 {
	po := math.Exp(math.Log(c.Outage) / float64(attempts))
	return c.BandwidthHz * math.Log2(1-c.SNR*c.gain()*math.Log1p(-po))
}

// BestRate returns the rate in bits per second that minimises the worst-case latency of Eq. 9, and the number
// of attempts at it. Between the corners of the ceiling in Eq. 9 the latency falls with the rate, so only the
// corners count, and attempts/rate has one minimum over them. (Eq. 13 as printed is monotone and has none.)
func (c Channel) BestRate() (rate float64, attempts int, err error) {
	if err := c.check(); err != nil {
		return 0, 0, err
	}
	if c.FixedRate != 0 {
		return c.FixedRate, 1, nil
	}
	rate, attempts = c.corner(1), 1
	for n := 2; n < 1<<20; n++ {
		r := c.corner(n)
		if float64(n)*rate >= float64(attempts)*r {
			break
		}
		rate, attempts = r, n
	}
	if !(rate > 0) || math.IsInf(rate, 0) {
		return 0, 0, fmt.Errorf("sim: the channel %+v has no usable rate", c)
	}
	return rate, attempts, nil
}

// SecondsPerBit returns the worst-case latency of Eq. 9 at the best rate, per bit of the message.
func (c Channel) SecondsPerBit() (float64, error) {
	rate, attempts, err := c.BestRate()
	return float64(attempts) / rate, err
}
