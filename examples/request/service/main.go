// Command service is a NATS service that tells the time, to NATS programs and to MQTT clients alike. It is an ordinary service of
// nats.go/micro; that its subject begins with "mqtt0." makes it reachable for MQTT clients, under the topic svc/time.
//
//	nats req mqtt0.svc.time Europe/Berlin
//	mosquitto_rr -V 5 -t svc/time -e answers/me -m Europe/Berlin
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
	_ "time/tzdata" // where the system has no list of zones

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
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
	nc, err := nats.Connect(url, nats.Name("time"), nats.MaxReconnects(-1)) // for ever
	if err != nil {
		return err
	}
	defer nc.Close()
	service, err := micro.AddService(nc, micro.Config{Name: "time", Version: "1.0.0", Description: "tells the time in a zone"})
	if err != nil {
		return err
	}
	if err := service.AddEndpoint("time", micro.HandlerFunc(tellTime), micro.WithEndpointSubject("mqtt0.svc.time")); err != nil {
		return err
	}
	if err := nc.Flush(); err != nil {
		return err
	}
	log.Print("serving mqtt0.svc.time")
	<-ctx.Done()
	return service.Stop() // what has come is still answered
}

// tellTime answers with the time in the zone that the request names. An error becomes headers, which an MQTT 5.0 client finds as
// user properties.
func tellTime(r micro.Request) {
	var err error
	if zone, unknown := time.LoadLocation(string(r.Data())); unknown != nil {
		err = r.Error("400", unknown.Error(), nil)
	} else {
		err = r.Respond([]byte(time.Now().In(zone).Format(time.RFC3339)))
	}
	if err != nil {
		log.Printf("answer: %v", err)
	}
}
