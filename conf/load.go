package conf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// MaxFile is the longest settings file, bytes.
const MaxFile = 1 << 20

// A source is the text of a settings file. It knows on which line a key stands.
type source struct {
	file string
	text string
}

// load decodes the file at path into v. Where path is empty and there is no file at byDefault, v stays as it is.
func load(path, byDefault string, v any) (*source, error) {
	given := path != ""
	if !given {
		path = byDefault
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && !given {
		return &source{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	defer f.Close()
	if err := checkMode(f, false); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	if len(text) > MaxFile {
		return nil, fmt.Errorf("settings: %s is longer than %d bytes", path, MaxFile)
	}
	s := &source{path, string(text)}
	return s, s.decode(v)
}

// decode reads the text into v, whose fields are text, truths, whole numbers, lists of text and sections of such. It reports
// every key that v does not have and every value of another type.
func (s *source) decode(v any) error {
	var values map[string]any
	md, err := toml.Decode(s.text, &values)
	var pe toml.ParseError
	switch {
	case errors.As(err, &pe):
		return &Problem{s.file, pe.Position.Line, "", pe.Message}
	case err != nil:
		return &Problem{s.file, 0, "", err.Error()}
	}
	lines := s.lines()
	known := keys(reflect.TypeOf(v).Elem(), "")
	var problems []error
	wrong := "" // the last key found wrong: what stands in it is wrong with it
	for _, k := range md.Keys() {
		key := k.String()
		if wrong != "" && strings.HasPrefix(key, wrong+".") {
			continue
		}
		text := ""
		if f := field(reflect.ValueOf(v).Elem(), k); f.IsValid() {
			text = mismatch(key, f, lookup(values, k))
		} else {
			text = "is not a setting; " + suggest(key, known)
		}
		if text != "" {
			wrong = key
			problems = append(problems, &Problem{s.file, find(lines, key), key, text})
		}
	}
	if problems != nil {
		return errors.Join(problems...)
	}
	_, err = toml.Decode(s.text, v)
	return err
}

// field is the field of a settings struct that key names, or the zero Value.
func field(f reflect.Value, key toml.Key) reflect.Value {
	for _, part := range key {
		next := reflect.Value{}
		for i := 0; f.Kind() == reflect.Struct && i < f.NumField(); i++ {
			if f.Type().Field(i).Tag.Get("toml") == part {
				next = f.Field(i)
			}
		}
		if f = next; !f.IsValid() {
			break
		}
	}
	return f
}

// lookup is the value in the file that key names.
func lookup(values map[string]any, key toml.Key) any {
	var v any = values
	for _, part := range key {
		table, _ := v.(map[string]any)
		v = table[part]
	}
	return v
}

// mismatch says what to write where value cannot be that of the field; empty where it can.
func mismatch(key string, f reflect.Value, value any) string {
	ok, write := false, ""
	switch f.Kind() {
	case reflect.String:
		_, ok = value.(string)
		write = fmt.Sprintf("text; write it in quotes, as in %s = %q", name(key), "…")
	case reflect.Bool:
		_, ok = value.(bool)
		write = fmt.Sprintf("true or false; write %s = %v, without quotes", name(key), f.Bool())
	case reflect.Int:
		_, ok = value.(int64)
		write = fmt.Sprintf("a whole number; write it without quotes, as in %s = %d", name(key), f.Int())
	case reflect.Slice:
		list, isList := value.([]any)
		ok = isList && !slices.ContainsFunc(list, func(e any) bool { _, isText := e.(string); return !isText })
		write = fmt.Sprintf("a list of texts; write it as in %s = [%q, %q]", name(key), "…", "…")
	case reflect.Struct:
		_, ok = value.(map[string]any)
		write = fmt.Sprintf("a section; write [%s] on a line of its own and its settings below", key)
	}
	if ok {
		return ""
	}
	return "must be " + write
}

// name is the last part of a key.
func name(key string) string { return key[strings.LastIndexByte(key, '.')+1:] }

// keys lists every key of a settings type, sections included.
func keys(t reflect.Type, prefix string) []string {
	var all []string
	for i := range t.NumField() {
		f := t.Field(i)
		key := prefix + f.Tag.Get("toml")
		all = append(all, key)
		if f.Type.Kind() == reflect.Struct {
			all = append(all, keys(f.Type, key+".")...)
		}
	}
	return all
}

// locate adds file and line to the problems that Validate found.
func (s *source) locate(err error) error {
	if err == nil || s.file == "" {
		return err
	}
	lines := s.lines()
	for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
		if p, ok := err.(*Problem); ok {
			p.File, p.Line = s.file, find(lines, p.Key)
		}
	}
	return err
}

// lines maps each key and section that begins a line to the number of that line. It reads TOML only as far as this needs;
// a key inside an inline table is not found, but the table is.
func (s *source) lines() map[string]int {
	at := make(map[string]int)
	section := ""
	for i, line := range strings.Split(s.text, "\n") {
		line = strings.TrimSpace(line)
		name, isSection := strings.CutPrefix(line, "[")
		end := "="
		if isSection {
			name, end = strings.TrimPrefix(name, "["), "]"
		}
		name, _, ok := strings.Cut(name, end)
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(name, ".")
		for j, p := range parts {
			parts[j] = strings.Trim(strings.TrimSpace(p), `"'`)
		}
		key := strings.Join(parts, ".")
		switch {
		case isSection:
			section = key
		case section != "":
			key = section + "." + key
		}
		if at[key] == 0 {
			at[key] = i + 1
		}
	}
	return at
}

// find gives the line of the key, or of the section around it, or 0.
func find(lines map[string]int, key string) int {
	for key != "" {
		if n := lines[key]; n != 0 {
			return n
		}
		key = key[:max(strings.LastIndexByte(key, '.'), 0)]
	}
	return 0
}

// suggest says what to write instead of an unknown key: the known one that is nearest, or where to look.
func suggest(key string, known []string) string {
	best, least := "", 1<<20
	for _, k := range known {
		d := distance(key, k)
		if name(k) == key { // the right name in the wrong section
			d = 1
		}
		if d < least {
			best, least = k, d
		}
	}
	if least <= max(2, len(key)/3) {
		return fmt.Sprintf("write %s", best)
	}
	return "the example file lists those that are"
}

// distance counts the letters to insert, delete or replace between a and b (Levenshtein), letters of one case or the other alike.
func distance(a, b string) int {
	const longest = 64
	a, b = strings.ToLower(a[:min(len(a), longest)]), strings.ToLower(b[:min(len(b), longest)])
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
