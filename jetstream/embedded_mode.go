package jetstream

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// modeFile in the data directory says how its store was written. A server of a cluster deletes the streams that its cluster does not
// know, 30 s after it has started: those of a server that was alone; and alone it would have a part of what the cluster has.
const modeFile = "mode"

const (
	modeAlone   = "alone"
	modeCluster = "cluster"
)

// mode is what modeFile holds for a configuration.
func (c *EmbeddedConfig) mode() string {
	if !c.Cluster.Enabled() {
		return modeAlone
	}
	return strings.Join([]string{modeCluster, c.Cluster.Name, c.ServerName}, " ")
}

// checkMode refuses a store that was written in another mode, and notes the mode of one that is new. The directory is locked.
func checkMode(c *EmbeddedConfig) error {
	path := filepath.Join(c.DataDir, modeFile)
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read %s: %w: make it readable for this user", path, cause(err))
	}
	have, want := strings.TrimSpace(string(content)), c.mode()
	switch stored, err := hasStore(c.DataDir); {
	case err != nil:
		return err
	case !stored:
		have = "" // whatever it was
	case have == "":
		have = modeAlone // of before there were clusters
	}
	if have != "" && have != want {
		return wrongMode(c, have)
	}
	if err := writeFile(path, want+"\n"); err != nil {
		return fmt.Errorf("cannot write %s: %w: make it writable for this user", path, cause(err))
	}
	return nil
}

// hasStore reports whether there are streams, or what a cluster knows of them.
func hasStore(dir string) (bool, error) {
	for _, pattern := range []string{"streams", "_js_"} {
		found, err := filepath.Glob(filepath.Join(globEscape.Replace(dir), "jetstream", "*", pattern, "*"))
		if err != nil || len(found) > 0 {
			return true, err
		}
	}
	return false, nil
}

// globEscape makes a path a pattern for itself.
var globEscape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// wrongMode says what to do about a store of another mode.
func wrongMode(c *EmbeddedConfig, have string) error {
	fields := strings.Fields(have)
	switch {
	case have == modeAlone:
		return fmt.Errorf("data directory %s is that of a server that was alone; one of a cluster would delete its streams: "+
			"name an empty directory with --data-dir and take the streams over with 'dunlin migrate --from %s', or leave out --cluster-listen", c.DataDir, c.DataDir)
	case len(fields) != 3 || fields[0] != modeCluster:
		return fmt.Errorf("%s says %q, which nobody has written: put back what it said", filepath.Join(c.DataDir, modeFile), have)
	case !c.Cluster.Enabled():
		return fmt.Errorf("data directory %s is that of a server of cluster %s; alone it is nothing whole: "+
			"start it with --cluster-listen and --cluster-routes, or name another directory with --data-dir", c.DataDir, fields[1])
	case fields[1] != c.Cluster.Name:
		return fmt.Errorf("data directory %s is that of a server of cluster %s, not %s: set cluster.name to %s, or name another directory with --data-dir", c.DataDir, fields[1], c.Cluster.Name, fields[1])
	default:
		return fmt.Errorf("data directory %s is that of server %s of its cluster, not %s: put back the name in its file node, or name an empty directory with --data-dir", c.DataDir, fields[2], c.ServerName)
	}
}

// writeFile puts a file in place that is on the disk when it is seen.
func writeFile(path, content string) error {
	if have, err := os.ReadFile(path); err == nil && string(have) == content {
		return nil
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // in vain when all went well
	_, err = file.WriteString(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
