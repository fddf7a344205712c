package conf

import (
	"bytes"
	"errors"
	"image"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// write puts text into a file of mode 0600 and gives its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "settings.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExamplesAreTheDefaults(t *testing.T) {
	relay, err := LoadRelay(write(t, RelayExample))
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultRelay()
	if want.Name, err = os.Hostname(); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(relay, want) {
		t.Errorf("relayd.toml gives %+v, the defaults are %+v", relay, want)
	}
	host, err := LoadHost(write(t, HostExample))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(host, DefaultHost()) {
		t.Errorf("hostd.toml gives %+v, the defaults are %+v", host, DefaultHost())
	}
}

func TestExamplesListEveryKey(t *testing.T) {
	for _, c := range []struct {
		name, text string
		settings   any
	}{{"relayd.toml", RelayExample, Relay{}}, {"hostd.toml", HostExample, Host{}}} {
		var any map[string]any
		md, err := toml.Decode(c.text, &any)
		if err != nil {
			t.Fatal(err)
		}
		var have []string
		for _, k := range md.Keys() {
			have = append(have, k.String())
		}
		want := keys(reflect.TypeOf(c.settings), "")
		slices.Sort(have)
		slices.Sort(want)
		if !slices.Equal(have, want) {
			t.Errorf("%s lists %v, the settings are %v", c.name, have, want)
		}
	}
}

func TestRelayProblems(t *testing.T) {
	dir := t.TempDir()
	pem := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // the umask of the test may differ
			t.Fatal(err)
		}
		return path
	}
	cert, key, open, shared := pem("cert", 0o644), pem("key", 0o600), pem("open", 0o644), pem("shared", 0o660)
	group := pem("group", 0o640)
	for _, c := range []struct {
		name, in string
		err      string // of the whole error, FILE for the path; empty: none
	}{
		{name: "nothing", in: ""},
		{name: "everything", in: RelayExample},
		{name: "a door closed", in: "[rfb]\nlisten = \"\""},
		{name: "IPv6", in: "[rfb]\nlisten = \"[::1]:5900\""},
		{name: "two free ports", in: "[ssh]\nlisten = \":0\"\n[rfb]\nlisten = \":0\""},
		{name: "same port of two addresses", in: "[ssh]\nlisten = \"127.0.0.1:2222\"\n[rfb]\nlisten = \"127.0.0.2:2222\""},
		{name: "certificate", in: "[tls]\ncert = \"" + cert + "\"\nkey = \"" + key + "\""},
		{name: "key of a group", in: "[tls]\ncert = \"" + cert + "\"\nkey = \"" + group + "\""},
		{name: "in clear on loopback", in: "[rfb_code]\nclear_listen = \"127.0.0.1:5902\""},
		{name: "in clear for all, meant so", in: "[rfb_code]\nclear_listen = \":5902\"\nallow_clear_public = true"},

		{name: "typing mistake", in: "\n[rfb]\nlisen = \":5900\"",
			err: "FILE:3: rfb.lisen is not a setting; write rfb.listen"},
		{name: "section with a typing mistake", in: "[rfb-code]\nlisten = \":1\"\nx = 1",
			err: "FILE:1: rfb-code is not a setting; write rfb_code"},
		{name: "key without its section", in: "clear_listen = \"\"",
			err: "FILE:1: clear_listen is not a setting; write rfb_code.clear_listen"},
		{name: "in capitals", in: "[rfb]\nListen = \":5900\"",
			err: "FILE:2: rfb.Listen is not a setting; write rfb.listen"},
		{name: "wrong type and unknown", in: "[rfb]\nlisten = 1\n[rdp]\nlisten = true\n[tls]\ncrt = \"\"",
			err: "FILE:2: rfb.listen must be text; write it in quotes, as in listen = \"…\"\nFILE:4: rdp.listen must be text; write it in quotes, as in listen = \"…\"\nFILE:6: tls.crt is not a setting; write tls.cert"},
		{name: "like none", in: "[databases]\nurl = \"x\"",
			err: "FILE:1: databases is not a setting; the example file lists those that are"},
		{name: "two unknown", in: "nam = \"a\"\n[log]\nlevl = \"info\"",
			err: "FILE:1: nam is not a setting; write name\nFILE:3: log.levl is not a setting; write log.level"},
		{name: "number for text", in: "[rfb]\nlisten = 5900",
			err: "FILE:2: rfb.listen must be text; write it in quotes, as in listen = \"…\""},
		{name: "text for a section", in: "rfb = \":5900\"",
			err: "FILE:1: rfb must be a section; write [rfb] on a line of its own and its settings below"},
		{name: "text for a truth", in: "[rfb_code]\nallow_clear_public = \"yes\"",
			err: "FILE:2: rfb_code.allow_clear_public must be true or false; write allow_clear_public = false, without quotes"},
		{name: "no TOML", in: "name = \"a\"\nrfb: 5900", err: "FILE:2: expected '.' or '=', but got ':' instead"},
		{name: "twice", in: "name = \"a\"\nname = \"b\"", err: "FILE:2: Key 'name' has already been defined."},

		{name: "port alone", in: "[rfb]\nlisten = \"5900\"",
			err: `FILE:2: rfb.listen "5900" is no address to listen on; write host:port or :port, as in ":5900", or "" to keep it closed`},
		{name: "port 65535", in: "[rfb]\nlisten = \":65535\""},
		{name: "port 65536", in: "[rfb]\nlisten = \":65536\"", err: `"` + ":65536" + `" is no address to listen on`},
		{name: "same port", in: "[rfb]\nlisten = \"127.0.0.1:2222\"",
			err: `FILE:2: rfb.listen "127.0.0.1:2222" is the port of ssh.listen too; write another`},
		{name: "in clear for all", in: "[rfb_code]\nclear_listen = \":5902\"",
			err: `FILE:2: rfb_code.clear_listen ":5902" can be reached from outside`},
		{name: "every problem", in: "name = \"a b\"\nstate_dir = \"x\"\nlog = {level = \"loud\", format = \"xml\"}",
			err: "FILE:1: name \"a b\" is neither a host name nor an address; write what people type to reach the relay, as in \"relay.example.org\"\n" +
				"FILE:2: state_dir \"x\" is not an absolute path; write one, as in \"/var/lib/helmline/relayd\"\n" +
				"FILE:3: log.level is \"loud\"; write \"debug\", \"info\", \"warn\" or \"error\"\n" +
				"FILE:3: log.format is \"xml\"; write \"text\" or \"json\""},
		{name: "socket of 107 bytes", in: "state_dir = \"/" + strings.Repeat("d", 107-len("//relayd.sock")) + "\""},
		{name: "socket of 108 bytes", in: "state_dir = \"/" + strings.Repeat("d", 108-len("//relayd.sock")) + "\"",
			err: "has 108 bytes, more than 107; write a shorter path"},
		{name: "certificate without key", in: "[tls]\ncert = \"" + cert + "\"",
			err: "FILE:1: tls has one of cert and key; write both, or none"},
		{name: "no certificate there", in: "[tls]\ncert = \"/nowhere/x\"\nkey = \"" + key + "\"",
			err: `FILE:2: tls.cert "/nowhere/x" cannot be opened (no such file or directory); write the path of a PEM file`},
		{name: "key that others read", in: "[tls]\ncert = \"" + cert + "\"\nkey = \"" + open + "\"",
			err: `is a secret that others can read (mode 0644); run: chmod o= ` + open},
		{name: "key that a group writes", in: "[tls]\ncert = \"" + cert + "\"\nkey = \"" + shared + "\"",
			err: `can be written by others (mode 0660); run: chmod go-w ` + shared},
		{name: "folder for a certificate", in: "[tls]\ncert = \"" + dir + "\"\nkey = \"" + key + "\"",
			err: `is not a regular file`},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, c.in)
			_, err := LoadRelay(path)
			checkError(t, err, strings.ReplaceAll(c.err, "FILE", path))
		})
	}
}

func TestHostProblems(t *testing.T) {
	for _, c := range []struct{ name, in, err string }{
		{name: "everything", in: HostExample},
		{name: "a display", in: "[display]\nsource = \":0\""},
		{name: "a display's screen", in: "[display]\nsource = \":12.1\""},
		{name: "no administrators", in: "[login]\nadmins = []"},
		{name: "names of a domain", in: "[login]\nadmins = [\"EXAMPLE\\\\admins\"]\naccess_account = \"bob@example\""},
		{name: "display of another machine", in: "[display]\nsource = \"desk7:0\"",
			err: `FILE:2: display.source "desk7:0" is no screen; write "auto", "virtual" or an X display of this machine, as in ":0"`},
		{name: "display without a number", in: "[display]\nsource = \":\"", err: `display.source ":" is no screen`},
		{name: "size in words", in: "[display]\nsize = \"1280 by 800\"",
			err: `FILE:2: display.size "1280 by 800" is no size; write width and height in pixels, as in "1280x800"`},
		{name: "size with more behind", in: "[display]\nsize = \"1280x800x24\"", err: `"1280x800x24" is no size`},
		{name: "63 wide", in: "[display]\nsize = \"63x64\"", err: `is out of range`},
		{name: "64 wide", in: "[display]\nsize = \"64x64\""},
		{name: "16384 wide", in: "[display]\nsize = \"16384x4096\""},
		{name: "16385 wide", in: "[display]\nsize = \"16385x64\"", err: `is out of range; write 64 to 16384 pixels a side and at most 64 million in all`},
		{name: "too many pixels", in: "[display]\nsize = \"16384x4097\"", err: `is out of range`},
		{name: "cookie by a relative path", in: "[display]\nxauthority = \".Xauthority\"", err: `display.xauthority ".Xauthority" is not an absolute path`},
		{name: "group with a slash", in: "[login]\nadmins = [\"sudo\", \"a/b\"]", err: `FILE:2: login.admins "a/b" is no group name`},
		{name: "user with a space", in: "[login]\naccess_account = \"bob b\"", err: `FILE:2: login.access_account "bob b" is no user name`},
		{name: "what to ask first", in: "[login]\ncode_first = \"yes\"", err: `FILE:2: login.code_first is "yes"; write "auto", "code" or "password"`},
		{name: "PAM service in another folder", in: "[login]\npam_service = \"../x\"", err: `login.pam_service "../x" is no PAM service`},
		{name: "no session", in: "[policy]\nmax_sessions = 0", err: `FILE:2: policy.max_sessions 0 is out of range; write 1 to 1000`},
		{name: "one session", in: "[policy]\nmax_sessions = 1"},
		{name: "1000 sessions", in: "[policy]\nmax_sessions = 1000"},
		{name: "1001 sessions", in: "[policy]\nmax_sessions = 1001", err: `1001 is out of range`},
		{name: "sessions in quotes", in: "[policy]\nmax_sessions = \"9\"", err: "policy.max_sessions must be a whole number; write it without quotes, as in max_sessions = 64"},
		{name: "one way for text", in: "[policy]\nclipboard = \"host-to-viewer\""},
		{name: "no way for text", in: "[policy]\nclipboard = \"in\"", err: `FILE:2: policy.clipboard is "in"; write "off", "host-to-viewer", "viewer-to-host" or "both"`},
		{name: "users who may force", in: "[policy]\ntake_force = [\"alice\", \"bob@example\"]"},
		{name: "recording", in: "[policy]\nrecording = \"required\"\nrecord_space = 256"},
		{name: "recording at times", in: "[policy]\nrecording = \"sometimes\"", err: `FILE:2: policy.recording`},
		{name: "space of 255 MiB", in: "[policy]\nrecord_space = 255", err: "policy.record_space 255 is out of range; write 256 to 1073741824 (MiB)"},
		{name: "recordings of -1 days", in: "[policy]\nrecord_days = -1", err: "policy.record_days -1 is out of range; write 1 to 36500 (days), or 0 for no limit"},
		{name: "recordings without an end", in: "[policy]\nrecord_days = 0"},
		{name: "recordings of 36500 days", in: "[policy]\nrecord_days = 36500"},
		{name: "recordings of 36501 days", in: "[policy]\nrecord_days = 36501", err: "36501 is out of range"},
		{name: "a key for recordings", in: "[policy]\nrecord_key = \"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\""},
		{name: "half a key for recordings", in: "[policy]\nrecord_key = \"AQEBAQEB\"", err: `FILE:2: policy.record_key is no key for recordings; write what "relayd record-key`},
		{name: "no OS user", in: "[policy]\ntake_force = [\"alice\", \"bob b\"]", err: `FILE:2: policy.take_force "bob b" is no user name; write OS users`},
		{name: "users without a list", in: "[policy]\ntake_force = \"alice\"", err: "policy.take_force must be a list of texts; write it as in take_force = [\"…\", \"…\"]"},
		{name: "list of a number", in: "[login]\nadmins = [\"sudo\", 4]", err: "FILE:2: login.admins must be a list of texts"},
		{name: "list of sections", in: "[[login]]\nadmins = []", err: "FILE:1: login must be a section"},
		{name: "root on the network", in: "[net]\nuser = \"root\"", err: `FILE:2: net.user is "root", but what talks to the network must have no privilege`},
		{name: "setting of the relay", in: "[rfb]\nlisten = \":5900\"", err: "FILE:1: rfb is not a setting"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, c.in)
			_, err := LoadHost(path)
			checkError(t, err, strings.ReplaceAll(c.err, "FILE", path))
		})
	}
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && err == nil:
		t.Errorf("accepted; want the error %q", want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("error\n%v\nwant in it\n%s", err, want)
	}
}

func TestFile(t *testing.T) {
	if _, err := LoadRelay("/nowhere/relayd.toml"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that was named and is missing: %v", err)
	}
	path := write(t, "")
	if err := os.Chmod(path, 0o620); err != nil {
		t.Fatal(err)
	}
	_, err := LoadHost(path)
	checkError(t, err, "can be written by others (mode 0620); run: chmod go-w "+path)
	_, err = LoadHost(write(t, strings.Repeat("\n", MaxFile)))
	checkError(t, err, "")
	_, err = LoadHost(write(t, strings.Repeat("\n", MaxFile+1)))
	checkError(t, err, "is longer than 1048576 bytes")
	_, err = LoadHost(t.TempDir())
	checkError(t, err, "is not a regular file")
}

func TestPlaces(t *testing.T) {
	r, h := DefaultRelay(), DefaultHost()
	if got := []string{r.Socket(), h.Socket(), h.NetSocket(), h.NetStateDir()}; !slices.Equal(got, []string{
		"/run/relayd/relayd.sock", "/run/helmline/hostd.sock", "/run/helmline/net.sock", "/var/lib/helmline/hostd-net"}) {
		t.Errorf("by default %v", got)
	}
	r.StateDir, h.StateDir = "/tmp/a", "/tmp/b/"
	if got := []string{r.Socket(), h.Socket(), h.NetSocket(), h.NetStateDir()}; !slices.Equal(got, []string{
		"/tmp/a/relayd.sock", "/tmp/b/hostd.sock", "/tmp/b/net.sock", "/tmp/b-net"}) {
		t.Errorf("elsewhere %v", got)
	}
	if got := h.Display.Pixels(); got != image.Pt(1280, 800) {
		t.Errorf("the size is %v", got)
	}
}

// What is accepted survives a round trip; the rest says where the mistake is.
func FuzzSettings(f *testing.F) {
	f.Add([]byte(RelayExample))
	f.Add([]byte(HostExample))
	f.Add([]byte("rfb = {listen = \":1\"}\n[[log]]\n\"a.b\" = [1, {c = 2}]"))
	f.Fuzz(func(t *testing.T, in []byte) {
		fuzzSettings(t, in, DefaultRelay(), DefaultRelay())
		fuzzSettings(t, in, DefaultHost(), DefaultHost())
	})
}

func fuzzSettings(t *testing.T, in []byte, v, again interface{ Validate() error }) {
	s := &source{"f", string(in)}
	err := s.decode(v)
	if r, ok := v.(*Relay); ok {
		r.TLS = TLS{} // Validate would open what the input names
	}
	if err == nil {
		err = s.locate(v.Validate())
	}
	if err != nil {
		if !strings.HasPrefix(err.Error(), "f:") {
			t.Fatalf("no file in %q", err)
		}
		return
	}
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(v); err != nil {
		t.Fatal(err)
	}
	if err := (&source{"f", b.String()}).decode(again); err != nil || !reflect.DeepEqual(v, again) {
		t.Fatalf("wrote %+v, read back %+v, %v", v, again, err)
	}
}
