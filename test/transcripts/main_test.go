// Package transcripts runs the terminal sessions that the documentation shows, and compares what comes out with what the page
// says. A page is read from top to bottom and is one session:
//
//	```console
//	$ mosquitto_sub -i dev1 -t 'cmd/#' -v &
//	cmd/dev1/reboot now
//	$ nats pub mqtt.cmd.dev1.reboot now
//	01:31:21 Published 3 bytes to "mqtt.cmd.dev1.reboot"
//	```
//
// A line that begins with "$ " is a command for sh; one that ends with a backslash goes on in the next line. The lines behind it
// are its output, standard output and standard error in one. The page uses the ports that are the defaults; here they are others.
//
// A command that ends with " &" runs in the background, and its output stands under it, whenever it came. The next command is
// started when mosquitto_sub has its SUBACK, and when another program has written its first line and then nothing for a second. It
// is ended with its block, when it has written what the page says. Such a command must be a single program.
//
// "dunlin serve … &" goes on until the page ends or another one takes its place. Its log has to go to a file *.log.
//
// Words behind "console" say more:
//
//	embedded     the block is for the broker with its NATS server inside
//	external     the block is for the broker that uses a nats-server, which runs when the page begins
//	eventually   what it shows takes a moment: its commands, which only look, are repeated until they show it
//
// What differs from run to run is not compared: see mask. go test ./test/transcripts -rewrite writes what really comes out into
// the pages; lines that differ in such things only are left alone.
package transcripts

import (
	"os"
	"testing"

	"dunlin/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }
