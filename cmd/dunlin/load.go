package main

import (
	"fmt"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
)

// variablePrefix starts every environment variable that is ours: DUNLIN_SECTION__KEY. A variable without the double
// underscore is passed over, since container platforms inject such names for a service called dunlin.
const variablePrefix = "DUNLIN_"

// setting is the text of one key and where it came from.
type setting struct {
	text, origin string
}

// settings holds, for each key that was set, the setting which wins.
type settings map[string]setting

// loadConfig is the configuration as a broker runs with it.
func loadConfig(o options) (Config, settings, error) {
	c, set, err := readConfig(o)
	if err == nil {
		err = c.settle(set)
	}
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		return Config{}, nil, err
	}
	return c, set, nil
}

// readConfig puts the sources together, the stronger over the weaker: flag > variable > file > default.
func readConfig(o options) (Config, settings, error) {
	set := make(settings)
	if o.file != "" {
		if err := set.readFile(o.file); err != nil {
			return Config{}, nil, err
		}
	}
	if err := set.readVariables(); err != nil {
		return Config{}, nil, err
	}
	for _, f := range o.overrides {
		if err := set.put(f.key, f.text, f.origin); err != nil {
			return Config{}, nil, err
		}
	}
	set.addDefaults()
	var c Config
	for i := range keys {
		s, v := set[keys[i].name], keys[i].bind(&c)
		if err := v.set(s.text); err != nil {
			return Config{}, nil, fmt.Errorf("%s: value %q from %s: %w; it must be %s",
				keys[i].name, s.text, s.origin, err, v.allowed())
		}
	}
	return c, set, nil
}

func (s settings) readFile(path string) error {
	k := koanf.New(".")
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return fmt.Errorf("read configuration file %s: %w; --config takes a YAML file of sections and keys", path, err)
	}
	for name := range k.Raw() {
		if strings.Contains(name, ".") {
			return fmt.Errorf("key %q in file %s: a section and a key in one name; write the key indented under its section", name, path)
		}
	}
	return s.putAll(k, func(string) string { return "file " + path })
}

func (s settings) readVariables() error {
	k := koanf.New(".")
	err := k.Load(env.Provider(".", env.Opt{
		Prefix: variablePrefix,
		TransformFunc: func(name, text string) (string, any) {
			name = strings.TrimPrefix(name, variablePrefix)
			if !strings.Contains(name, "__") {
				return "", nil
			}
			return strings.ToLower(strings.ReplaceAll(name, "__", ".")), text
		},
	}), nil)
	if err != nil {
		return fmt.Errorf("read the environment: %w", err)
	}
	return s.putAll(k, func(key string) string {
		return "variable " + variablePrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "__"))
	})
}

// putAll takes over all values of one source, in the order of their names (that of Keys), so that of two mistakes the
// same one is reported each time.
func (s settings) putAll(k *koanf.Koanf, origin func(key string) string) error {
	values := k.All()
	for _, name := range k.Keys() {
		switch v := values[name].(type) {
		case nil, map[string]any:
			if isSection(name) {
				continue // a section with nothing in it
			}
			if err := s.put(name, "", origin(name)); err != nil {
				return err
			}
		case []any:
			return fmt.Errorf("%s: a list from %s: not allowed; the key takes one value", name, origin(name))
		default:
			if err := s.put(name, fmt.Sprint(v), origin(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s settings) put(name, text, origin string) error {
	if findKey(name) == nil {
		return fmt.Errorf("unknown key %q from %s; the nearest known key is %q", name, origin, nearestKey(name))
	}
	s[name] = setting{text: text, origin: origin}
	return nil
}

// given reports whether somebody set a key to something, before or after addDefaults.
func (s settings) given(name string) bool {
	found, ok := s[name]
	return ok && found.text != "" && !strings.HasPrefix(found.origin, originDefault)
}

// originDefault begins the origin of what nobody set.
const originDefault = "default"

// addDefaults fills in the keys that nobody set. A key that follows another comes after it in the table.
func (s settings) addDefaults() {
	for i := range keys {
		k := &keys[i]
		if _, isSet := s[k.name]; isSet {
			continue
		}
		if k.follows != "" {
			s[k.name] = setting{text: s[k.follows].text, origin: originDefault + ", as " + k.follows}
			continue
		}
		s[k.name] = setting{text: k.preset, origin: originDefault}
	}
}
