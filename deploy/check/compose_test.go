package check

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const root = "../.."

// loadCompose reads the compose file as "docker compose" does: against its schema, with its references and variables.
func loadCompose(t *testing.T, variables ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithEnv(variables))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// named is the services whose names begin so, by name.
func named(project *types.Project, prefix string) []types.ServiceConfig {
	var found []types.ServiceConfig
	for _, name := range project.ServiceNames() {
		if strings.HasPrefix(name, prefix) {
			found = append(found, project.Services[name])
		}
	}
	return found
}

// variable is a variable of a service, empty when it has none.
func variable(s types.ServiceConfig, name string) string {
	if value := s.Environment[name]; value != nil {
		return *value
	}
	return ""
}

func TestThreeBrokersWaitForThreeNATSServers(t *testing.T) {
	project := loadCompose(t)
	brokers, servers := named(project, "dunlin-"), named(project, "nats-")
	if len(brokers) != 3 || len(servers) != 3 {
		t.Fatalf("%d brokers and %d NATS servers, want 3 of each", len(brokers), len(servers))
	}
	for _, broker := range brokers {
		for _, server := range servers {
			if broker.DependsOn[server.Name].Condition != types.ServiceConditionHealthy || server.HealthCheck == nil {
				t.Errorf("%s does not wait until %s is healthy", broker.Name, server.Name)
			}
			if urls := variable(broker, "DUNLIN_NATS__URL"); !slices.Contains(strings.Split(urls, ","), "nats://"+server.Name+":4222") {
				t.Errorf("%s is not told of %s: %q", broker.Name, server.Name, urls)
			}
		}
		if _, err := os.Stat(filepath.Join(broker.Build.Context, broker.Build.Dockerfile)); err != nil {
			t.Error(err)
		}
	}
}

func TestEachServiceHasItsOwnData(t *testing.T) {
	project := loadCompose(t)
	_, data := image(t)
	owners := map[string]string{}
	for prefix, directory := range map[string]string{"dunlin-": data, "nats-": "/data"} {
		for _, s := range named(project, prefix) {
			i := slices.IndexFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool {
				return v.Type == types.VolumeTypeVolume && v.Target == directory
			})
			if i < 0 {
				t.Errorf("%s has no volume at %s", s.Name, directory)
				continue
			}
			if other := owners[s.Volumes[i].Source]; other != "" {
				t.Errorf("%s and %s share the volume %s", s.Name, other, s.Volumes[i].Source)
			}
			owners[s.Volumes[i].Source] = s.Name
		}
	}
}

func TestMountedFilesAreThere(t *testing.T) {
	for _, s := range loadCompose(t).Services {
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if info, err := os.Stat(v.Source); err != nil || !info.Mode().IsRegular() || !v.ReadOnly {
				t.Errorf("%s mounts %s: %v; want a regular file, read only", s.Name, v.Source, err)
			}
		}
	}
}

// Nobody has to log in, so that other machines must not get there before somebody says so.
func TestPortsArePublishedToThisMachineUnlessAsked(t *testing.T) {
	for variable, want := range map[string]string{"": "127.0.0.1", "DUNLIN_PUBLISH=0.0.0.0": "0.0.0.0"} {
		var published []string
		for _, s := range loadCompose(t, variable).Services {
			for _, p := range s.Ports {
				published = append(published, p.Published)
				if p.HostIP != want {
					t.Errorf("with %q %s publishes %s at %q, want %s", variable, s.Name, p.Published, p.HostIP, want)
				}
			}
		}
		slices.Sort(published)
		if !slices.Equal(published, []string{"1883", "4222", "8083"}) {
			t.Errorf("published ports %q", published)
		}
	}
}

func TestBalancerKnowsEachBroker(t *testing.T) {
	project := loadCompose(t)
	config, err := fs.ReadFile(os.DirFS(root), "deploy/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	servers := map[string][]string{}
	for _, s := range regexp.MustCompile(`(?m)^\s+server (\S+) (\S+):(\d+)$`).FindAllStringSubmatch(string(config), -1) {
		if s[1] != s[2] {
			t.Errorf("the server %s is at %s", s[1], s[2])
		}
		servers[s[3]] = append(servers[s[3]], s[2])
	}
	var brokers []string
	for _, b := range named(project, "dunlin-") {
		brokers = append(brokers, b.Name)
	}
	binds := regexp.MustCompile(`(?m)^\s+bind :(\d+)$`).FindAllStringSubmatch(string(config), -1)
	ports := project.Services["balancer"].Ports
	if len(binds) != len(ports) {
		t.Fatalf("it listens on %q and publishes %v", binds, ports)
	}
	for i, p := range ports {
		if bind := binds[i][1]; bind != p.Published || p.Target != parsePort(t, bind) || !slices.Equal(servers[bind], brokers) {
			t.Errorf("port %s is published as %s:%d and leads to %q, want %q", bind, p.Published, p.Target, servers[bind], brokers)
		}
	}
}
