package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"dunlin/mqttcodec"
)

func newHealthCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a broker whether it answers MQTT clients",
		Long: "Ask a broker whether it answers MQTT clients.\n\n" +
			"It connects as an MQTT 5.0 client, with no credentials and no session that lasts. Any CONNACK will do, also one that\n" +
			"refuses the client: the broker is alive. The exit code is 1 when there is none in time.\n\n" +
			"Without --mqtt the address is listeners.mqtt of the variables and the file that serve reads; the flags of a serve\n" +
			"that runs are not seen.",
		Args: noArguments,
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	var o options
	flags.StringVar(&o.file, "config", "", "read the configuration from a YAML `FILE`")
	flags.Var(addressFlag{&o}, "mqtt", "where the broker listens, instead of listeners.mqtt")
	timeout := flags.Duration("timeout", 5*time.Second, "how long the whole of it may take")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *timeout <= 0 {
			return fmt.Errorf("timeout %s: it must be more than 0s", *timeout)
		}
		config, _, err := readConfig(o)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), *timeout)
		defer cancel()
		reason, err := knock(ctx, config.Listeners.MQTT)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("nothing within %s", *timeout)
		}
		if err != nil {
			return fmt.Errorf("no MQTT broker answers at %s: %w; look at its log, or name another address with --mqtt", config.Listeners.MQTT, err)
		}
		verdict := "accepted"
		if reason.Failed() {
			verdict = "refused"
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "the broker at %s answers: CONNACK 0x%02X, %s\n", config.Listeners.MQTT, byte(reason), verdict)
		return err
	}
	return cmd
}

// addressFlag is --mqtt HOST:PORT: the strongest source of listeners.mqtt.
type addressFlag struct{ to *options }

func (f addressFlag) Set(text string) error {
	f.to.overrides = append(f.to.overrides, override{"listeners.mqtt", text, "flag --mqtt"})
	return nil
}

func (f addressFlag) String() string { return "" }
func (f addressFlag) Type() string   { return "HOST:PORT" }

// longestConnack is more than any broker answers a client with that it knows nothing of.
const longestConnack = 64 << 10

// knock connects as a client that leaves nothing behind, and returns what its CONNECT is answered with. The server makes up the
// client identifier: one that is ours would be taken for a device.
func knock(ctx context.Context, address string) (mqttcodec.ReasonCode, error) {
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer func() { _ = connection.Close() }() // all was said
	if deadline, ok := ctx.Deadline(); ok {
		if err := connection.SetDeadline(deadline); err != nil {
			return 0, err
		}
	}
	if err := sendPacket(connection, &mqttcodec.Connect{Version: mqttcodec.V5, CleanStart: true}); err != nil {
		return 0, err
	}
	answer, err := mqttcodec.NewReader(connection, mqttcodec.V5, longestConnack).ReadPacket()
	if err != nil {
		return 0, err
	}
	connack, ok := answer.(*mqttcodec.Connack)
	switch {
	case !ok:
		return 0, fmt.Errorf("%s instead of CONNACK", answer.Type())
	case connack.Reason.Failed():
		return connack.Reason, nil // the broker closes
	}
	return connack.Reason, sendPacket(connection, &mqttcodec.Disconnect{})
}

func sendPacket(connection net.Conn, p mqttcodec.Packet) error {
	frame, err := mqttcodec.Append(nil, mqttcodec.V5, p)
	if err == nil {
		_, err = connection.Write(frame)
	}
	return err
}
