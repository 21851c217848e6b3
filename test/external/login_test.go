package external

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"dunlin/mqttcodec"
	"dunlin/test/harness"
)

// serves has a message stored and delivered.
func serves(t *testing.T, b *harness.Broker) {
	t.Helper()
	c := harness.NewDevice(mqttcodec.V5, "c").Connect(b, harness.Persistent)
	c.Subscribe("a", 1)
	c.Publish("a", 1, "x")
	c.ExpectPayloads("x")
}

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestLoginWithNKey(t *testing.T) {
	t.Parallel()
	user := must[nkeys.KeyPair](t)(nkeys.CreateUser())
	public := must[string](t)(user.PublicKey())
	seed := must[[]byte](t)(user.Seed())
	s := harness.StartNATSServer(t, fmt.Sprintf("authorization { users: [ { nkey: %s } ] }", public))
	serves(t, harness.Start(t, harness.WithExternalNATS(s.URL(), "--nkey", write(t, filepath.Join(t.TempDir(), "nkey"), seed))))
}

func TestLoginWithCredentials(t *testing.T) {
	t.Parallel()
	operator := must[nkeys.KeyPair](t)(nkeys.CreateOperator())
	account := must[nkeys.KeyPair](t)(nkeys.CreateAccount())
	user := must[nkeys.KeyPair](t)(nkeys.CreateUser())
	key := func(pair nkeys.KeyPair) string { return must[string](t)(pair.PublicKey()) }

	system := must[nkeys.KeyPair](t)(nkeys.CreateAccount()) // JetStream asks for one
	systemJWT := must[string](t)(jwt.NewAccountClaims(key(system)).Encode(operator))
	operatorClaims := jwt.NewOperatorClaims(key(operator))
	operatorClaims.SystemAccount = key(system)
	operatorJWT := must[string](t)(operatorClaims.Encode(operator))
	accountClaims := jwt.NewAccountClaims(key(account))
	accountClaims.Limits.DiskStorage, accountClaims.Limits.MemoryStorage = -1, -1
	accountClaims.Limits.Streams, accountClaims.Limits.Consumer = -1, -1
	accountJWT := must[string](t)(accountClaims.Encode(operator))
	userJWT := must[string](t)(jwt.NewUserClaims(key(user)).Encode(account))
	creds := must[[]byte](t)(jwt.FormatUserConfig(userJWT, must[[]byte](t)(user.Seed())))

	s := harness.StartNATSServer(t, fmt.Sprintf("operator: %q\nresolver: MEMORY\nresolver_preload: { %s: %q, %s: %q }",
		operatorJWT, key(account), accountJWT, key(system), systemJWT))
	serves(t, harness.Start(t, harness.WithExternalNATS(s.URL(), "--creds", write(t, filepath.Join(t.TempDir(), "user.creds"), creds))))
}

func TestLoginWithCertificates(t *testing.T) {
	t.Parallel()
	ca, certificate, key := harness.Certificates(t)
	s := harness.StartNATSServer(t,
		fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify_and_map: true }", certificate, key, ca),
		`authorization { users: [ { user: "CN=test" } ] }`)
	url := "tls://" + s.Address
	serves(t, harness.Start(t, harness.WithExternalNATS(url,
		"--set", "nats.tls_ca="+ca, "--set", "nats.tls_cert="+certificate, "--set", "nats.tls_key="+key)))
	code, _, stderr := harness.RunToExit(t, "serve", "--nats", url, "--set", "nats.connect_timeout=1s")
	if code != 1 || lastLine(stderr) == "" {
		t.Errorf("without certificates: exit %d, %s", code, stderr)
	}
}

func TestLoginWithToken(t *testing.T) {
	t.Parallel()
	s := harness.StartNATSServer(t, "authorization { token: secret }")
	serves(t, harness.Start(t, harness.WithExternalNATS(s.URL(), "--set", "nats.token=secret")))
}

// The streams are those of another JetStream domain, which a leaf node reaches.
func TestDomainBehindLeafNode(t *testing.T) {
	t.Parallel()
	leaves := harness.FreeAddress(t)
	hub := harness.StartNATSServer(t, fmt.Sprintf("leafnodes { listen: %q }", leaves), "jetstream { domain: hub }")
	edge := harness.StartNATSServer(t, fmt.Sprintf("leafnodes { remotes: [ { url: \"nats-leaf://%s\" } ] }", leaves), "jetstream { domain: edge }")
	b := harness.Start(t, harness.WithExternalNATS(edge.URL(), "--js-domain", "hub"))
	exercise(t, b, kill9(b))
	if out := harness.NewNATSCommand(t, hub.Address).Run(t, "stream", "ls", "--names"); len(out) == 0 {
		t.Error("the hub has no streams")
	}
}
