package main

import (
	"context"
	"errors"
	"log/slog"
)

func startBroker(context.Context, Config, *slog.Logger) (broker, error) {
	return nil, errors.New("no broker yet")
}
