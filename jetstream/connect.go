package jetstream

import (
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"dunlin/sessions"
)

// Conn is a connection to NATS, for who introduces the parts to one another.
type Conn = nats.Conn

// inboxPrefix begins the subjects on which we are answered, so that a permission can name them.
const inboxPrefix = "_INBOX.dunlin"

// ExternalConfig says how to reach NATS servers that are not ours.
type ExternalConfig struct {
	// URLs are those of one or more servers of one cluster, separated by commas.
	URLs string
	// Credentials and NKey are paths of a credentials file and of a file with the seed of an nkey, empty without.
	Credentials, NKey string
	// User and Password, or Token, log in without them.
	User, Password, Token string
	// TLSCA, TLSCert and TLSKey are paths of PEM files: who may have signed the servers' certificates, and who we are.
	TLSCA, TLSCert, TLSKey string
	Logger                 *slog.Logger
}

// ConnectExternal connects to NATS servers that are not ours. Its errors are one line that says what to do, and ErrUnavailable when
// they may pass by themselves.
func ConnectExternal(c ExternalConfig) (*nats.Conn, error) {
	options, err := c.options()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(c.URLs, options...)
	if err != nil {
		return nil, c.refusal(err)
	}
	return nc, nil
}

// options are those of every connection to servers that are not ours.
func (c *ExternalConfig) options() ([]nats.Option, error) {
	options := append(commonOptions(c.Logger),
		nats.ReconnectWait(200*time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 300*time.Millisecond),
		nats.IgnoreAuthErrorAbort(), // an account may be given back
		nats.PingInterval(5*time.Second),
		nats.MaxPingsOutstanding(2),
		nats.Timeout(5*time.Second),
	)
	for _, path := range []string{c.Credentials, c.NKey, c.TLSCA, c.TLSCert, c.TLSKey} {
		if path == "" {
			continue
		}
		if _, err := os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("cannot read %s for the connection to NATS: %w: name a file that this user may read", path, cause(err))
		}
	}
	if c.Credentials != "" {
		options = append(options, nats.UserCredentials(c.Credentials))
	}
	if c.NKey != "" {
		option, err := nats.NkeyOptionFromSeed(c.NKey)
		if err != nil {
			return nil, fmt.Errorf("%s holds no nkey seed: %w", c.NKey, err)
		}
		options = append(options, option)
	}
	if c.User != "" {
		options = append(options, nats.UserInfo(c.User, c.Password))
	}
	if c.Token != "" {
		options = append(options, nats.Token(c.Token))
	}
	if c.TLSCA != "" {
		options = append(options, nats.RootCAs(c.TLSCA))
	}
	if c.TLSCert != "" {
		options = append(options, nats.ClientCert(c.TLSCert, c.TLSKey))
	}
	return options, nil
}

// RedactURLs is a list of URLs without their passwords.
func RedactURLs(urls string) string {
	list := strings.Split(urls, ",")
	for i, text := range list {
		if u, err := url.Parse(strings.TrimSpace(text)); err == nil {
			list[i] = u.Redacted()
		} else if _, host, found := strings.Cut(text, "@"); found {
			list[i] = "xxxxx@" + host
		}
	}
	return strings.Join(list, ",")
}

// refusal is why there is no connection, in one line that says what to do.
func (c *ExternalConfig) refusal(err error) error {
	text, urls := strings.ToLower(err.Error()), RedactURLs(c.URLs)
	says := func(words ...string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(text, word) })
	}
	switch {
	case says("authorization", "authentication"):
		return fmt.Errorf("cannot connect to NATS at %s: %w: check nats.creds, nats.nkey, nats.user and nats.password, or nats.token", urls, err)
	case says("x509", "tls"):
		return fmt.Errorf("cannot connect to NATS at %s: %w: check nats.tls_ca, nats.tls_cert and nats.tls_key; a server with TLS may have a URL that begins with tls://", urls, err)
	case says("parse", "invalid"):
		return fmt.Errorf("cannot connect to NATS at %s: %w: check --nats", urls, cause(err))
	}
	return fmt.Errorf("%w: cannot connect to NATS at %s: %w: check --nats and that the servers run", sessions.ErrUnavailable, urls, err)
}

// Connect connects to an embedded server without a socket. The connection never gives up, and buffers nothing while the
// server is away: what is written then fails at once.
func Connect(provider nats.InProcessConnProvider, logger *slog.Logger) (*nats.Conn, error) {
	nc, err := nats.Connect("", append(commonOptions(logger),
		nats.InProcessServer(provider),
		nats.ReconnectWait(100*time.Millisecond),
		nats.ReconnectJitter(0, 0),
	)...)
	if err != nil {
		return nil, fmt.Errorf("connect to embedded NATS: %w", err)
	}
	return nc, nil
}

// commonOptions are those of every connection: it comes back for ever, and nothing that was reported as failed is sent then.
func commonOptions(logger *slog.Logger) []nats.Option {
	var errors atomic.Uint64
	return []nats.Option{
		nats.Name("dunlin"),
		nats.CustomInboxPrefix(inboxPrefix),
		nats.NoEcho(), // the log tail hears what others publish, and knows what we do
		nats.ReconnectBufSize(-1),
		nats.MaxReconnects(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("NATS connection lost", "cause", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { logger.Info("NATS connection is back", "server", nc.ConnectedServerName()) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			if n := errors.Add(1); telling(n, 1) { // there is one for each message that may not be published
				logger.Warn("NATS connection", "cause", err, "subscription", subject, "so_far", n)
			}
		}),
	}
}
