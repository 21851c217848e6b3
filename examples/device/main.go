// Command device is an MQTT 5.0 device with a persistent session. It publishes a temperature at QoS 1 and takes commands; those
// that are sent while it is off, or cut off, it gets when it is back.
//
//	nats pub --jetstream mqtt.cmd.dev1.interval 2s   →   interval 2s
//	mosquitto_pub -q 1 -t cmd/dev1/interval -m 2s        the same
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/autopaho/queue/memory"
	"github.com/eclipse/paho.golang/paho"
)

func main() {
	server := flag.String("mqtt", "mqtt://127.0.0.1:1883", "MQTT broker")
	id := flag.String("id", "dev1", "client identifier: it names the session")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *server, *id); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, server, id string) error {
	u, err := url.Parse(server)
	if err != nil {
		return err
	}
	commands := "cmd/" + id + "/"
	intervals := make(chan time.Duration, 1)
	connection, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls:                    []*url.URL{u},
		KeepAlive:                     30,
		CleanStartOnInitialConnection: false,            // the session of the last run goes on
		SessionExpiryInterval:         7 * 24 * 60 * 60, // seconds
		Queue:                         memory.New(),     // of what is published while there is no connection
		OnConnectionUp: func(c *autopaho.ConnectionManager, connack *paho.Connack) {
			log.Printf("connected; the broker had the session: %v", connack.SessionPresent)
			if connack.SessionPresent {
				return // and with it the subscription
			}
			if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: commands + "#", QoS: 1}}}); err != nil {
				log.Printf("subscribe: %v", err)
				return
			}
			log.Print("subscribed")
		},
		OnConnectError: func(err error) { log.Printf("connect: %v", err) }, // and tries again
		ClientConfig: paho.ClientConfig{
			ClientID: id,
			// A command is acknowledged when this returns, so one that was cut short comes again.
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				carryOut(strings.TrimPrefix(p.Packet.Topic, commands), string(p.Packet.Payload), intervals)
				return true, nil
			}},
		},
	})
	if err != nil {
		return err
	}
	publish(ctx, connection, "plant/"+id+"/temp", intervals)
	// DISCONNECT: the session stays, and waits for us.
	leaving, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return connection.Disconnect(leaving)
}

// carryOut is what a command does.
func carryOut(name, argument string, intervals chan<- time.Duration) {
	fmt.Println(name, argument)
	if name != "interval" {
		return
	}
	d, err := time.ParseDuration(argument)
	if err != nil || d <= 0 {
		log.Printf("interval %q: not a duration such as 2s", argument)
		return
	}
	select {
	case intervals <- d:
	default: // another one has just come
	}
}

// publish publishes a temperature now and after each interval, until ctx ends.
func publish(ctx context.Context, c *autopaho.ConnectionManager, topic string, intervals <-chan time.Duration) {
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	for n := 0; ; n++ {
		celsius := fmt.Sprintf("%.1f", 20+5*math.Sin(float64(n)/10))
		if err := c.PublishViaQueue(ctx, &autopaho.QueuePublish{Publish: &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(celsius)}}); err != nil {
			log.Printf("publish: %v", err)
		}
		select {
		case <-ctx.Done():
			return
		case d := <-intervals:
			ticker.Reset(d)
		case <-ticker.C:
		}
	}
}
