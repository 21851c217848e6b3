// Command consumer is a NATS service that takes in what MQTT devices publish: the temperatures of a plant, from the stream in
// which Dunlin keeps all messages at QoS 1 and 2. It speaks NATS and knows nothing of MQTT.
//
//	mosquitto_pub -q 1 -t plant/line1/temp -m 21.5   →   line1 21.5 (1)
//
// Its place in the stream is a durable consumer: what arrives while the service is away it gets later. A message is acknowledged
// when the work for it is done, so one whose work was cut short comes again. Several of these services share the work.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

func main() {
	url := flag.String("nats", nats.DefaultURL, "NATS server: Dunlin's own, or the one that it uses")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *url); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, url string) error {
	nc, err := nats.Connect(url, nats.Name("temperatures"), nats.MaxReconnects(-1)) // for ever
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		return err
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, "MQTT", natsjs.ConsumerConfig{
		Durable:       "temperatures",
		FilterSubject: "mqtt.plant.*.temp", // the topics plant/+/temp
		AckPolicy:     natsjs.AckExplicitPolicy,
		AckWait:       30 * time.Second, // without an acknowledgement by then it comes again, to any of these services
		MaxDeliver:    10,               // then it is left alone
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	context.AfterFunc(ctx, messages.Drain) // what was fetched is still worked on
	log.Printf("consuming %s from stream MQTT", consumer.CachedInfo().Config.FilterSubject)
	for {
		m, err := messages.Next()
		if errors.Is(err, natsjs.ErrMsgIteratorClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := answer(m, take(m)); err != nil {
			log.Printf("%s: %v", m.Subject(), err) // it will come again
		}
	}
}

// errNonsense is for a message with which nothing can be done, now or later.
var errNonsense = errors.New("not a temperature")

// take is the work for one message. It may come twice, as anything at QoS 1 may; its sequence in the stream tells.
func take(m natsjs.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	celsius, err := strconv.ParseFloat(string(m.Data()), 64)
	if err != nil {
		return fmt.Errorf("%w: %w", errNonsense, err)
	}
	line := strings.Split(m.Subject(), ".")[2]
	fmt.Printf("%s %.1f (%d)\n", line, celsius, meta.Sequence.Stream)
	return nil
}

// answer tells the stream what became of a message.
func answer(m natsjs.Msg, err error) error {
	switch {
	case err == nil:
		return m.Ack()
	case errors.Is(err, errNonsense):
		log.Printf("%s: %v", m.Subject(), err)
		return m.Term() // do not send it again
	default:
		log.Printf("%s: %v", m.Subject(), err)
		return m.NakWithDelay(time.Second)
	}
}
