package jetstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"dunlin/sessions"
)

// ClusterConfig says how the embedded servers of several processes are one cluster. The zero value: the server is alone.
type ClusterConfig struct {
	// Listen is the address for the routes of the other servers, host:port; empty: the server is alone.
	Listen string
	// Routes are the addresses of the servers of the cluster, each host:port or nats-route://host:port. Our own may be one of them.
	Routes []string
	// Name is that of the cluster, the same on all servers.
	Name string
	// Advertise is the address at which the others reach Listen, host:port, if that is another one.
	Advertise string
	// User and Password are what a server shows to the others, and asks of them; empty: nothing.
	User, Password string
	// TLSCA, TLSCert and TLSKey are paths of PEM files: routes are encrypted, and both ends have to have a certificate that the CA
	// has signed. All or none.
	TLSCA, TLSCert, TLSKey string
	// Insecure: whoever reaches Listen may be a server of the cluster.
	Insecure bool
}

// Enabled reports whether there is a cluster at all.
func (c *ClusterConfig) Enabled() bool { return c.Listen != "" }

// Validate reports the first setting that makes no sense.
func (c *ClusterConfig) Validate() error {
	if !c.Enabled() {
		return nil
	}
	host, _, err := splitAddress(c.Listen)
	if err != nil {
		return fmt.Errorf("address for routes %q is not host:port", c.Listen)
	}
	if !validName(c.Name) {
		return fmt.Errorf("cluster name %q is not made of A-Z a-z 0-9 _ -", c.Name)
	}
	if len(c.Routes) == 0 {
		return errors.New("no routes: name the other servers")
	}
	if c.Advertise != "" {
		if _, _, err := splitAddress(c.Advertise); err != nil {
			return fmt.Errorf("advertised address %q is not host:port", c.Advertise)
		}
	}
	if _, err := c.routes(); err != nil {
		return err
	}
	if n := countSet(c.TLSCA, c.TLSCert, c.TLSKey); n != 0 && n != 3 {
		return errors.New("TLS between servers needs a CA, a certificate and its key: all or none")
	}
	if ip := net.ParseIP(host); !c.Insecure && c.Password == "" && c.TLSCA == "" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("routes on %s: whoever reaches it could read and write everything; %w", c.Listen, ErrOpenRoutes)
	}
	return nil
}

// ErrOpenRoutes: servers on other machines would be let in without being asked who they are.
var ErrOpenRoutes = errors.New("a password or TLS is missing")

func countSet(values ...string) int {
	n := 0
	for _, v := range values {
		if v != "" {
			n++
		}
	}
	return n
}

// routes are the URLs of Routes, with user and password where they have none.
func (c *ClusterConfig) routes() ([]*url.URL, error) {
	urls := make([]*url.URL, 0, len(c.Routes))
	for _, route := range c.Routes {
		text := route
		if !strings.Contains(text, "://") {
			text = "nats-route://" + text
		}
		u, err := url.Parse(text)
		if err != nil || u.Port() == "" || u.Hostname() == "" || u.Scheme != "nats-route" && u.Scheme != "nats" && u.Scheme != "tls" {
			return nil, fmt.Errorf("route %q is neither host:port nor nats-route://host:port", RedactURLs(route))
		}
		if u.User == nil && c.Password != "" {
			u.User = url.UserPassword(c.User, c.Password)
		}
		urls = append(urls, u)
	}
	return urls, nil
}

// apply makes the options those of a server of the cluster. The configuration is valid.
func (c *ClusterConfig) apply(options *server.Options) error {
	host, port, err := splitAddress(c.Listen)
	if err != nil {
		return err
	}
	if port == 0 {
		port = server.RANDOM_PORT
	} else if err := checkAddress(c.Listen); err != nil {
		return err
	}
	if options.Routes, err = c.routes(); err != nil {
		return err
	}
	options.ReconnectErrorReports = attemptsPerReport
	options.Cluster = server.ClusterOpts{Name: c.Name, Host: host, Port: port, Advertise: c.Advertise}
	if c.Password != "" {
		options.Cluster.Username, options.Cluster.Password = c.User, c.Password
	}
	if c.TLSCA == "" {
		return nil
	}
	options.Cluster.TLSConfig, err = c.tls()
	options.Cluster.TLSTimeout = tlsTimeout
	return err
}

// attemptsPerReport is how many attempts to reach a server that was lost, one each second, make a line of the log.
const attemptsPerReport = 60

// tlsTimeout is how long the TLS handshake of a route may take, in seconds.
const tlsTimeout = 5

// tls is the configuration of both ends of a route.
func (c *ClusterConfig) tls() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s for routes: %w: name a PEM certificate and its key that this user may read", c.TLSCert, c.TLSKey, cause(err))
	}
	pem, err := os.ReadFile(c.TLSCA)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s for routes: %w: name a file that this user may read", c.TLSCA, cause(err))
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate: name that of the CA which signed the servers' certificates", c.TLSCA)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate},
		RootCAs: authorities, ClientCAs: authorities, ClientAuth: tls.RequireAndVerifyClientCert,
	}, nil
}

// listenForRoutes begins to. NB: a server without a listener for clients waits for one before it does so itself.
func listenForRoutes(ns *server.Server) {
	clients := make(chan struct{})
	close(clients)
	ns.StartRouting(clients)
}

// AwaitLeader reports, as ErrUnavailable, that the cluster has no leader yet, which makes streams and tells where they are. A
// server that is alone needs none.
func (e *Embedded) AwaitLeader() error {
	if !e.clustered {
		return nil
	}
	state, err := e.server.Jsz(nil)
	if err != nil {
		return fmt.Errorf("%w: %w", sessions.ErrUnavailable, err)
	}
	if state.Meta != nil && state.Meta.Leader != "" {
		return nil
	}
	names := []string{e.server.Name()}
	if routes, err := e.server.Routez(nil); err == nil {
		for _, route := range routes.Routes {
			names = append(names, route.RemoteName)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return fmt.Errorf("%w: cluster %s has no leader, %d of its servers are connected (%s): a new cluster needs all that cluster.routes names, one that was there more than half; "+
		"start them, and see that they reach each other's cluster.listen and have the same cluster.name, cluster.user and cluster.password",
		sessions.ErrUnavailable, e.server.ClusterName(), len(names), strings.Join(names, " "))
}
