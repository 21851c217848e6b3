package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
)

// page is what this program writes, from the root of the repository.
const page = "docs/CONFORMANCE.md"

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	root := flags.String("root", ".", "the root of the repository")
	check := flags.Bool("check", false, "write nothing; fail when "+page+" is not what would be written")
	breakThem := flags.Bool("break", false, "break the behaviours in "+mutationsFile+" and see that their tests notice")
	only := flags.String("only", "", "of those, only the ones whose description matches")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r, err := read(*root)
	switch {
	case err != nil:
		return err
	case *breakThem:
		pattern, err := regexp.Compile(*only)
		if err != nil {
			return err
		}
		return breakAll(*root, r.mutations, pattern, stdout)
	case *check:
		return isCurrent(filepath.Join(*root, page), r.render())
	}
	if err := os.WriteFile(filepath.Join(*root, page), r.render(), 0o644); err != nil {
		return err
	}
	for _, c := range r.catalogues {
		if _, err := fmt.Fprintln(stdout, c.count(r.covered)); err != nil {
			return err
		}
	}
	return nil
}

// repository is what there is to report.
type repository struct {
	catalogues []*catalogue
	covered    coverage
	mutations  []mutation
}

// read reads everything and holds it together. What does not fit is an error with its place.
func read(root string) (r repository, err error) {
	if r.catalogues, err = loadCatalogues(root); err != nil {
		return r, err
	}
	citations, err := scan(root)
	if err != nil {
		return r, err
	}
	if r.mutations, err = loadMutations(root); err != nil {
		return r, err
	}
	for _, m := range r.mutations {
		citations = append(citations, m.citations...)
	}
	if r.covered, err = cover(r.catalogues, citations); err != nil {
		return r, err
	}
	return r, checkMutations(root, r.mutations, r.covered)
}

func isCurrent(path string, content []byte) error {
	written, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(written, content) {
		return errors.New(page + " is not what the tests and catalogues say; update it with: make conformance")
	}
	return nil
}
