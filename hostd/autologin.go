package main

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/helmline/helmline/hostd/login"
)

// openUser names a user whom this computer, by its settings under root, lets in without a password, or gives "".
func openUser(ctx context.Context, root string) string {
	if who := autologin(root); who != "" {
		if _, err := login.Lookup(ctx, who); err == nil {
			return who
		}
	}
	return emptyPassword(root)
}

// autologin finds the user whom a display manager logs in by itself, by its settings under root.
func autologin(root string) string {
	for _, dm := range []struct {
		files []string
		user  func(settings map[string]string) string
	}{
		{[]string{"usr/share/lightdm/lightdm.conf.d/*.conf", "etc/lightdm/lightdm.conf.d/*.conf", "etc/lightdm/lightdm.conf"},
			func(s map[string]string) string {
				for key, v := range s {
					if strings.HasPrefix(key, "seat") && strings.HasSuffix(key, "/autologin-user") && v != "" {
						return v
					}
				}
				return ""
			}},
		{[]string{"etc/gdm3/daemon.conf", "etc/gdm/custom.conf"}, func(s map[string]string) string {
			if strings.EqualFold(s["daemon/automaticloginenable"], "true") {
				return s["daemon/automaticlogin"]
			}
			if strings.EqualFold(s["daemon/timedloginenable"], "true") {
				return s["daemon/timedlogin"]
			}
			return ""
		}},
		{[]string{"usr/lib/sddm/sddm.conf.d/*.conf", "etc/sddm.conf.d/*.conf", "etc/sddm.conf"}, func(s map[string]string) string {
			return s["autologin/user"]
		}},
	} {
		settings := make(map[string]string)
		for _, pattern := range dm.files {
			paths, _ := filepath.Glob(filepath.Join(root, pattern)) // the patterns are right
			slices.Sort(paths)
			for _, p := range paths {
				readKeys(p, settings)
			}
		}
		if user := dm.user(settings); user != "" {
			return user
		}
	}
	return ""
}

// readKeys adds the settings of a file in sections as "section/key", both in lower case. What cannot be read is left out.
func readKeys(path string, into map[string]string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	section := ""
	for s := bufio.NewScanner(f); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = strings.ToLower(strings.Trim(line, "[]"))
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if ok && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ";") {
			into[section+"/"+strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
		}
	}
}

// emptyPassword finds a person's account with an empty password.
func emptyPassword(root string) string {
	f, err := os.Open(filepath.Join(root, "etc/shadow"))
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.SplitN(s.Text(), ":", 3)
		if len(fields) == 3 && fields[0] != "" && fields[1] == "" {
			return fields[0]
		}
	}
	return ""
}
