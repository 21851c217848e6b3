package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	if err := flags.Parse(args); err != nil {
		return err
	}
	catalogues, err := loadCatalogues(*root)
	if err != nil {
		return err
	}
	citations, err := scan(*root)
	if err != nil {
		return err
	}
	covered, err := cover(catalogues, citations)
	if err != nil {
		return err
	}
	content := render(catalogues, covered)
	path := filepath.Join(*root, page)
	if *check {
		return isCurrent(path, content)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return err
	}
	for _, c := range catalogues {
		if _, err := fmt.Fprintln(stdout, c.count(covered)); err != nil {
			return err
		}
	}
	return nil
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
