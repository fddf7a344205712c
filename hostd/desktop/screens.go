package desktop

import (
	"slices"
	"time"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/frame"
)

// relaid has the sessions of a desktop look at its screens.
func (s *server) relaid(number uint32) {
	s.mu.Lock()
	var all []*session
	for _, se := range s.sessions {
		if se.at == number {
			all = append(all, se)
		}
	}
	s.mu.Unlock()
	for _, se := range all {
		se.nudge()
	}
}

// offerScreens offers to show one of the desktop's screens, when it has come to have others than before and more than one.
func (s *session) offerScreens(now time.Time) {
	if s.state != shows || s.desk == nil {
		return
	}
	l, ok := s.desk.laidOut()
	if !ok || slices.EqualFunc(l.Screens, s.screens, func(a, b frame.Screen) bool { return a.ID == b.ID }) {
		return
	}
	s.dropOffer()
	s.screens = l.Screens
	if len(l.Screens) > 1 {
		s.offer, s.offered = form.Screens(len(l.Screens)), now.Add(offerTime)
	}
}

func (s *session) dropOffer() { s.offer, s.offered, s.screens, s.screen = nil, time.Time{}, nil, 0 }

// chooseScreen is a click on the offer.
func (s *session) chooseScreen(e event) {
	if e.kind != eventClick {
		return
	}
	i := s.srv.painter.At(s.offer, s.view.bounds(), e.at)
	if i < 0 {
		return
	}
	s.chooseNumber(s.offer.Items[i].ID - form.AllScreens)
}
