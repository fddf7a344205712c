package web

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helmline/helmline/bridge/tunnel"
)

// newPerson is somebody who is signed in until the test ends.
func newPerson(t *testing.T) *Person {
	gone, leave := context.WithCancel(context.Background())
	t.Cleanup(leave)
	return &Person{Gone: gone}
}

func TestTickets(t *testing.T) {
	alice, bob := newPerson(t), newPerson(t)
	for _, c := range []struct {
		name     string
		person   *Person
		computer string
		after    time.Duration
		ok       bool
	}{
		{"in time", alice, "desk7", ticketTime, true},
		{"too late", alice, "desk7", ticketTime + 1, false},
		{"somebody else", bob, "desk7", 0, false},
		{"another computer", alice, "desk8", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s tickets
				secret, ok := s.issue(alice, "desk7", tunnel.RoleWatch)
				if !ok {
					t.Fatal("no ticket")
				}
				time.Sleep(c.after)
				if role, ok := s.spend(secret, c.person, c.computer); ok != c.ok || ok && role != tunnel.RoleWatch {
					t.Errorf("%v, %v", role, ok)
				}
				if _, ok := s.spend(secret, alice, "desk7"); ok {
					t.Error("it can be tried twice")
				}
			})
		})
	}
}

func TestTicketsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s tickets
		alice, bob := newPerson(t), newPerson(t)
		for i := range maxTickets + 1 {
			if _, ok := s.issue(alice, "desk7", tunnel.RoleWatch); ok != (i < maxTickets) {
				t.Errorf("ticket %d: %v", i+1, ok)
			}
		}
		if _, ok := s.issue(bob, "desk7", tunnel.RoleWatch); !ok {
			t.Error("one shuts out the other")
		}
		time.Sleep(ticketTime + 1)
		if _, ok := s.issue(alice, "desk7", tunnel.RoleWatch); !ok || len(s.live) != 1 {
			t.Errorf("%v, %d are kept", ok, len(s.live))
		}
	})
}
