package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A scriptFolder holds scripts, each of which is a test.
type scriptFolder struct {
	path, pkg string
	test      string // the function that plays them
}

var scriptFolders = []scriptFolder{
	{"sessions/testdata/", "sessions", "TestScripts"},
	{"test/wire/testdata/", "test/wire", "TestWire"},
}

// folderOf is the folder of a script; ok is false when the file is none.
func folderOf(file string) (folder scriptFolder, ok bool) {
	for _, folder := range scriptFolders {
		if strings.HasPrefix(file, folder.path) && strings.HasSuffix(file, ".txt") {
			return folder, true
		}
	}
	return scriptFolder{}, false
}

// scriptName is how a script is called: its path in its folder.
func scriptName(file string) string {
	folder, _ := folderOf(file)
	return strings.TrimSuffix(strings.TrimPrefix(file, folder.path), ".txt")
}

// scan finds every citation in the repository's Go sources and scripts, in the order of the files.
func scan(root string) ([]citation, error) {
	var found []citation
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "tools") {
				return filepath.SkipDir
			}
			return nil
		}
		file, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		file = filepath.ToSlash(file)
		var in []citation
		switch {
		case strings.HasPrefix(file, "test/conformance/"): // this program's own examples cite nothing
		case strings.HasSuffix(file, ".go"):
			in, err = scanGo(path, file)
		default:
			if _, isScript := folderOf(file); isScript {
				in, err = scanScript(path, file)
			}
		}
		found = append(found, in...)
		return err
	})
	return found, err
}

// scanGo finds the citations in comments and strings, and the clauses that strings are: errors name the clause they obey,
// and tests ask them for it.
func scanGo(path, file string) ([]citation, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var found []citation
	cite := func(text string, at token.Pos) {
		of := test{}
		if name := testAround(parsed, at); name != "" && strings.HasSuffix(file, "_test.go") {
			of = test{name: name, file: file}
		}
		found = append(found, citationsIn(text, file, files.Position(at).Line, of)...)
	}
	for _, group := range parsed.Comments {
		for _, comment := range group.List {
			cite(comment.Text, comment.Pos())
		}
	}
	ast.Inspect(parsed, func(node ast.Node) bool {
		literal, isLiteral := node.(*ast.BasicLit)
		if !isLiteral || literal.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(literal.Value)
		switch {
		case err != nil:
		case bare.MatchString(text):
			cite("["+text+"]", literal.Pos())
		default:
			cite(text, literal.Pos())
		}
		return true
	})
	return found, nil
}

// testAround is the name of the test function that has a position in its doc comment or body, if there is one.
func testAround(file *ast.File, at token.Pos) string {
	for _, declared := range file.Decls {
		function, isFunction := declared.(*ast.FuncDecl)
		if !isFunction || function.Recv != nil || !isTest(function.Name.Name) {
			continue
		}
		start := function.Pos()
		if function.Doc != nil {
			start = function.Doc.Pos()
		}
		if start <= at && at < function.End() {
			return function.Name.Name
		}
	}
	return ""
}

func isTest(name string) bool {
	return name != "TestMain" && (strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz"))
}

// scanScript finds the citations in a script's comments.
func scanScript(path, file string) ([]citation, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var found []citation
	for i, line := range strings.Split(string(content), "\n") {
		if strings.HasPrefix(line, "#") {
			found = append(found, citationsIn(line, file, i+1, test{name: scriptName(file), file: file})...)
		}
	}
	return found, nil
}
