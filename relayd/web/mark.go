package web

import (
	"net/http"
	"slices"
	"strings"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/registry"
)

// A section is a part of the list of computers, with a heading unless it is all of the list.
type section struct {
	Key       string // of its heading, among the others
	Name      string
	Computers []listed
}

// sections divide a list that is in their order: favourites, groups, others.
func sections(all []listed) []section {
	var list []section
	marked := false
	for _, c := range all {
		s := section{Key: "others", Name: "Others"}
		switch {
		case c.Favourite:
			s = section{Key: "favourites", Name: "Favourites"}
		case c.Group != "":
			s = section{Key: "group " + c.Group, Name: c.Group}
		}
		marked = marked || c.Favourite || c.Group != ""
		if len(list) == 0 || list[len(list)-1].Key != s.Key {
			list = append(list, s)
		}
		last := &list[len(list)-1]
		last.Computers = append(last.Computers, c)
	}
	if !marked && len(list) > 0 {
		list[0].Key, list[0].Name = "", ""
	}
	return list
}

// search are those computers that have all words of what was searched for, as the page finds them by itself where it runs scripts.
func search(all []listed, text string) []listed {
	return slices.DeleteFunc(slices.Clone(all), func(c listed) bool {
		have := strings.ToLower(strings.Join([]string{c.Name, c.Owner, c.State, c.Group}, "\n"))
		return slices.ContainsFunc(strings.Fields(strings.ToLower(text)), func(word string) bool { return !strings.Contains(have, word) })
	})
}

// groups are those that an account has, each once.
func groups(all []registry.Computer) []string {
	var names []string
	for _, c := range all {
		if c.Group != "" {
			names = append(names, c.Group)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// everyone may do what concerns only themselves.
func everyone(*Person, *registry.Computer) bool { return true }

// setFavourite is what the star on the list does. How somebody keeps their list concerns nobody else, so it is not recorded.
func (s *Server) setFavourite(r *http.Request, p *Person, c *registry.Computer) error {
	if err := s.paced(p); err != nil {
		return err
	}
	return s.Computers.SetFavourite(r.Context(), p.Account, c, r.PostFormValue("favourite") != "")
}

// setGroup puts a computer into the group that the form names.
func (s *Server) setGroup(r *http.Request, p *Person, c *registry.Computer) error {
	if err := s.paced(p); err != nil {
		return err
	}
	return s.Computers.SetGroup(r.Context(), p.Account, c, r.PostFormValue("group"))
}

// marks serves a form that changes how somebody keeps a computer on their list, and leads back to the list or to the computer's page.
func (s *Server) marks(set func(r *http.Request, p *Person, c *registry.Computer) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, c, ok := s.asOne(everyone, w, r)
		if !ok {
			return
		}
		if err := set(r, p, c); err != nil || r.PostFormValue("list") == "" {
			s.altered(w, r, p, c, err)
			return
		}
		http.Redirect(w, r, home, http.StatusSeeOther)
	}
}

func (s *Server) paced(p *Person) error {
	if !s.changes.Pass(p.Account.ID, 1) {
		return refuse.TooFast.Of()
	}
	return nil
}
