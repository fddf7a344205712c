package main

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/relayd/registry"
)

var (
	rowName     = regexp.MustCompile(`<a class="name" [^>]*>([^<]+)</a>|<li class="section" data-key="[^"]*"><h2>([^<]+)</h2>`)
	rowTemplate = regexp.MustCompile(`(?s)<template.*?</template>`)
)

// rows are the headings (as #NAME) and computers of the list, from top to bottom.
func (b *browser) rows(query string) (all []string) {
	b.t.Helper()
	_, page, _ := b.get("/computers" + query)
	for _, m := range rowName.FindAllStringSubmatch(rowTemplate.ReplaceAllString(page, ""), -1) {
		if m[2] != "" {
			all = append(all, "#"+m[2])
		} else {
			all = append(all, m[1])
		}
	}
	return all
}

// Each person has favourites and groups of their own, of all the computers that they may use.
func TestWebMarks(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.account("bob@example.com")
	for _, name := range []string{"ada", "bell", "curie", "darwin"} {
		r.computer("alice@example.com", name, echo)
	}
	if _, err := r.admin.ShareHost(t.Context(), "curie", "bob@example.com", registry.RightWatch, time.Time{}); err != nil {
		t.Fatal(err)
	}
	alice, bob := r.browser(), r.browser()
	alice.signIn("alice@example.com", password, "")
	bob.signIn("bob@example.com", password, "")
	rows := func(b *browser, query string, want ...string) {
		t.Helper()
		if got := b.rows(query); !slices.Equal(got, want) {
			t.Errorf("the list%s is %q, want %q", query, got, want)
		}
	}
	rows(alice, "", "ada", "bell", "curie", "darwin")
	told := alice.events()
	within(t, told, "list")
	mark := func(b *browser, name, what string, form url.Values, status int, at string) {
		t.Helper()
		got, page, led := b.post("/computers/"+name+"/"+what, form)
		if got != status || !strings.HasPrefix(led, at) {
			t.Errorf("%s of %s: %d at %s\n%s", what, name, got, led, page)
		}
	}
	mark(alice, "darwin", "favourite", url.Values{"favourite": {"yes"}, "list": {"yes"}}, 200, "/computers")
	if got := within(t, told, "change of the list"); got.Computers[0].Name != "darwin" || !got.Computers[0].Favourite {
		t.Errorf("told %+v", got)
	}
	mark(alice, "bell", "group", url.Values{"group": {" Zürich "}}, 200, "/computers/")
	mark(alice, "curie", "group", url.Values{"group": {"lab & co"}}, 200, "/computers/")
	mark(alice, "darwin", "group", url.Values{"group": {"lab & co"}}, 200, "/computers/")
	rows(alice, "", "#Favourites", "darwin", "#lab &amp; co", "curie", "#Zürich", "bell", "#Others", "ada")
	rows(alice, "?q=LAB", "#Favourites", "darwin", "#lab &amp; co", "curie")
	rows(alice, "?q=lab+cur", "#lab &amp; co", "curie")
	rows(alice, "?q=nothing")
	rows(bob, "", "curie")
	for _, group := range []string{strings.Repeat("x", registry.MaxGroup+1), "<b>", "a\nb"} {
		mark(alice, "ada", "group", url.Values{"group": {group}}, http.StatusBadRequest, "/computers/")
	}
	mark(alice, "ada", "group", url.Values{"group": {strings.Repeat("x", registry.MaxGroup)}}, 200, "/computers/")
	mark(alice, "ada", "group", nil, 200, "/computers/")
	mark(bob, "curie", "group", url.Values{"group": {"alice's"}}, 200, "/computers/")
	mark(bob, "ada", "favourite", url.Values{"favourite": {"yes"}}, http.StatusNotFound, "/computers/")
	rows(bob, "", "#alice&#39;s", "curie")
	if _, page, _ := alice.get("/computers/curie"); !strings.Contains(page, `value="lab &amp; co" list="groups"`) || !strings.Contains(page, `<option value="Zürich">`) {
		t.Errorf("the page of curie:\n%s", page)
	}
	mark(alice, "darwin", "favourite", nil, 200, "/computers/")
	for _, name := range []string{"bell", "curie", "darwin"} {
		mark(alice, name, "group", url.Values{"group": {""}}, 200, "/computers/")
	}
	rows(alice, "", "ada", "bell", "curie", "darwin")
}
