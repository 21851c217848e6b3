package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// SystemKeyFile in the data directory of a server of a cluster holds the seed of an nkey: who can read it may log in to that server
// for the system account, which looks at the servers of the cluster and removes those that are lost.
const SystemKeyFile = "system.nk"

// letSystemIn makes the options those of a server on which the holder of the key in the data directory is of the system account.
// All others are of the global account, as without it.
func letSystemIn(options *server.Options, dataDir string) error {
	key, err := systemKey(filepath.Join(dataDir, SystemKeyFile))
	if err != nil {
		return err
	}
	public, err := key.PublicKey()
	if err != nil {
		return err
	}
	account := server.NewAccount(server.DEFAULT_SYSTEM_ACCOUNT)
	options.Accounts, options.SystemAccount = []*server.Account{account}, account.Name
	options.Nkeys = []*server.NkeyUser{{Nkey: public, Account: account}}
	return nil
}

// systemKey reads the key, and makes it when there is none.
func systemKey(path string) (nkeys.KeyPair, error) {
	seed, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		key, err := nkeys.CreateUser()
		if err != nil {
			return nil, err
		}
		if seed, err = key.Seed(); err != nil {
			return nil, err
		}
		if err := writeFile(path, string(seed)+"\n"); err != nil {
			return nil, fmt.Errorf("cannot write %s: %w: make it writable for this user", path, cause(err))
		}
		return key, nil
	case err != nil:
		return nil, fmt.Errorf("cannot read %s: %w: make it readable for this user", path, cause(err))
	}
	key, err := nkeys.ParseDecoratedUserNKey(seed)
	if err != nil {
		return nil, fmt.Errorf("%s holds no nkey seed: %w: remove it, and a new one is made", path, err)
	}
	return key, nil
}

// Peer is a server of a cluster.
type Peer struct {
	Name string `json:"name"`
	// Leader: it makes streams and tells where they are.
	Leader bool `json:"leader"`
	// Current: it knows all that the leader knows.
	Current bool `json:"current"`
	// Offline: it does not answer. NATS itself calls a server offline a minute after it was killed, or not at all.
	Offline bool `json:"offline"`
}

// Peers lists the servers of the cluster behind a connection for the system account.
func Peers(ctx context.Context, nc *nats.Conn) ([]Peer, error) {
	var answer struct {
		Data struct {
			Meta struct {
				Leader   string `json:"leader"`
				Replicas []Peer `json:"replicas"`
			} `json:"meta_cluster"`
		} `json:"data"`
	}
	if err := systemCall(ctx, nc, "$SYS.REQ.SERVER.PING.JSZ", map[string]bool{"leader_only": true}, &answer); err != nil {
		return nil, err
	}
	meta := answer.Data.Meta
	peers := append([]Peer{{Name: meta.Leader, Leader: true, Current: true}}, meta.Replicas...)
	answering, err := answeringServers(ctx, nc, len(peers))
	for i := range peers {
		peers[i].Offline = !slices.Contains(answering, peers[i].Name)
	}
	return peers, err
}

// pingTimeout is how long a server may take to answer that it runs.
const pingTimeout = 2 * time.Second

// answeringServers are the names of those that answer, at most so many.
func answeringServers(ctx context.Context, nc *nats.Conn, most int) (names []string, err error) {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails when the connection is closed
	if err := nc.PublishRequest("$SYS.REQ.SERVER.PING", inbox, nil); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	for len(names) < most {
		m, err := sub.NextMsgWithContext(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		var answer struct {
			Server struct {
				Name string `json:"name"`
			} `json:"server"`
		}
		if err := json.Unmarshal(m.Data, &answer); err != nil {
			return nil, fmt.Errorf("answer %q: %w", m.Data, err)
		}
		names = append(names, answer.Server.Name)
	}
	return names, nil
}

// RemovePeer makes the cluster behind a connection for the system account forget a server: what it has kept others keep instead.
func RemovePeer(ctx context.Context, nc *nats.Conn, name string) error {
	var answer struct {
		Error *apiError `json:"error"`
	}
	if err := systemCall(ctx, nc, "$JS.API.SERVER.REMOVE", map[string]string{"peer": name}, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return answer.Error.err()
	}
	return nil
}

// systemTimeout is how long the leader of a cluster may take to answer.
const systemTimeout = 10 * time.Second

func systemCall(ctx context.Context, nc *nats.Conn, subject string, request, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, systemTimeout)
	defer cancel()
	if err := call(ctx, nc, subject, request, answer); err != nil {
		return fmt.Errorf("the leader of the cluster does not answer: %w: more than half of its servers have to run", err)
	}
	return nil
}
