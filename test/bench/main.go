// Bench loads an MQTT broker, checks that it delivered what it had to, and
// reports what that cost. See README.md.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"time"
)

func main() {
	debug.SetGCPercent(400)
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "compare":
			compare(os.Args[2:])
			return
		case "table":
			table(os.Args[2:])
			return
		case "summary":
			summary(os.Args[2:])
			return
		}
	}
	var c Config
	name := flag.String("name", "", "broker's name in the result")
	addFlags(flag.CommandLine, &c)
	flag.BoolVar(&jsonOut, "json", false, "print the result as JSON")
	flag.Parse()
	if c.Scenario == "kill9" && c.Stall < 40*time.Second {
		c.Stall = 40 * time.Second
	}
	os.Exit(emit(runScenario(&c, *name)))
}

// fatal ends the program: what was asked for makes no sense, or the machine does not let us.
func fatal(f string, a ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+f+"\n", a...)
	os.Exit(2)
}
