// Command splitbench evaluates language models that are split between an edge
// device and a cloud.
package main

import (
	"os"

	"splitbench/harness/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
