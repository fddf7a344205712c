// Imports checks which package may import which, as the layout has it:
//
//	relayd, relayd/*, hostd, hostd/*  →  bridge/*, conf and their own siblings
//	bridge/*                          →  bridge/wire, bridge/frame, bridge/refuse and packages below or above their own
//	conf                              →  nothing of ours
//
// Tests are held to the same. Run it at the top of the module: go run ./.ci/imports
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

const module = "github.com/helmline/helmline/"

// A listed package as "go list -json" gives it.
type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func main() {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		fmt.Fprintln(os.Stderr, "imports: go list:", err)
		os.Exit(1)
	}
	wrong, n := 0, 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; n++ {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			fmt.Fprintln(os.Stderr, "imports:", err)
			os.Exit(1)
		}
		imports := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		slices.Sort(imports)
		for _, i := range slices.Compact(imports) {
			if why := forbidden(p.ImportPath, i); why != "" {
				fmt.Fprintf(os.Stderr, "%s imports %s; %s\n", short(p.ImportPath), short(i), why)
				wrong++
			}
		}
	}
	if wrong > 0 {
		os.Exit(1)
	}
	fmt.Printf("imports: %d packages, each imports only what it may\n", n)
}

func short(path string) string { return strings.TrimPrefix(path, module) }

// forbidden says why the package may not import what it does; empty: it may.
func forbidden(pkg, imported string) string {
	pkg = short(pkg)
	tree, _, _ := strings.Cut(pkg, "/")
	if tree == "bridge" && (imported == "log" || imported == "log/slog" || imported == "net/http") {
		return "protocols log nothing and serve nothing; hand the caller an error"
	}
	if !strings.HasPrefix(imported, module) {
		return ""
	}
	imported = short(imported)
	to, _, _ := strings.Cut(imported, "/")
	switch tree {
	case "relayd", "hostd":
		if to == tree || to == "bridge" || to == "conf" {
			return ""
		}
		return "a daemon may import bridge, conf and its own packages; what both daemons need belongs in bridge"
	case "bridge":
		if slices.Contains([]string{"bridge/wire", "bridge/frame", "bridge/refuse"}, imported) || related(pkg, imported) {
			return ""
		}
		return "bridge may import bridge/wire, bridge/frame and bridge/refuse of ours"
	case "conf":
		return "conf imports nothing of ours"
	}
	return ""
}

// related says whether a and b are one package or stand below one another: bridge/rfb and bridge/rfb/rfbtest.
func related(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}
