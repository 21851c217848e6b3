// Command device is an MQTT 5.0 device that asks a NATS service and answers NATS programs.
//
//	svc/time, Response Topic devices/d1/answers      →  a service at mqtt0.svc.time, and its answer comes to that topic
//	nats req mqtt0.devices.d1.cmd uptime             →  devices/d1/cmd, Response Topic $reply/<token>: what is published there is the answer
//
// Both are at QoS 0: a request is for who is there now. Who asks has a timeout.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
)

func main() {
	server := flag.String("mqtt", "mqtt://127.0.0.1:1883", "MQTT broker")
	id := flag.String("id", "d1", "client identifier")
	zone := flag.String("zone", "UTC", "time zone to ask the time of")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *server, &device{id: *id, zone: *zone, started: time.Now()}); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, server string, d *device) error {
	u, err := url.Parse(server)
	if err != nil {
		return err
	}
	connection, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls:                    []*url.URL{u},
		KeepAlive:                     30,
		CleanStartOnInitialConnection: true,
		OnConnectionUp:                func(c *autopaho.ConnectionManager, _ *paho.Connack) { d.connected(ctx, c) },
		OnConnectError:                func(err error) { log.Printf("connect: %v", err) }, // and tries again
		ClientConfig: paho.ClientConfig{
			ClientID: d.id,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				d.received(ctx, p)
				return true, nil
			}},
		},
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	leaving, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return connection.Disconnect(leaving)
}

// device answers commands, and asks for the time.
type device struct {
	id, zone string
	started  time.Time
}

func (d *device) commands() string { return "devices/" + d.id + "/cmd" }
func (d *device) answers() string  { return "devices/" + d.id + "/answers" }

// connected subscribes, and asks. Without a session that lasts both are to be done again on each connection.
func (d *device) connected(ctx context.Context, c *autopaho.ConnectionManager) {
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: d.commands()}, {Topic: d.answers()}}}); err != nil {
		log.Printf("subscribe: %v", err)
		return
	}
	log.Print("answering at ", d.commands())
	_, err := c.Publish(ctx, &paho.Publish{
		Topic: "svc/time", Payload: []byte(d.zone),
		Properties: &paho.PublishProperties{ResponseTopic: d.answers(), CorrelationData: []byte(d.zone)},
	})
	if err != nil {
		log.Printf("ask: %v", err)
	}
}

// received takes an answer, or a command. It runs where packets are read, so it must not wait for one.
func (d *device) received(ctx context.Context, p paho.PublishReceived) {
	properties := p.Packet.Properties
	if p.Packet.Topic == d.answers() {
		if refusal := properties.User.Get("Nats-Service-Error"); refusal != "" {
			log.Printf("the service refuses: %s", refusal)
			return
		}
		fmt.Printf("time in %s: %s\n", properties.CorrelationData, p.Packet.Payload)
		return
	}
	answer := fmt.Sprintf("unknown command %q", p.Packet.Payload)
	if string(p.Packet.Payload) == "uptime" {
		answer = fmt.Sprintf("%s is up for %v", d.id, time.Since(d.started).Round(time.Second))
	}
	fmt.Printf("%s → %s\n", p.Packet.Payload, answer)
	if properties.ResponseTopic == "" {
		return // nobody waits for it
	}
	_, err := p.Client.Publish(ctx, &paho.Publish{
		Topic: properties.ResponseTopic, Payload: []byte(answer),
		Properties: &paho.PublishProperties{CorrelationData: properties.CorrelationData},
	})
	if err != nil {
		log.Printf("answer: %v", err)
	}
}
