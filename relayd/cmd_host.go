package main

import (
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/helmline/helmline/relayd/admin"
	"github.com/helmline/helmline/relayd/registry"
)

const hostHelp = "COMPUTER is its name, OWNER/NAME, or its number as \"relayd host list\" shows it."

func hostCommands() []command {
	return []command{
		{path: "host invite", args: "EMAIL [--name NAME]", about: "Print the line to run on a computer that is to join an account's computers.", min: 1, max: 1,
			more: fmt.Sprintf("The line works once, within %d minutes. Without --name the computer's own name is taken.", int(registry.InvitationTTL.Minutes())), flags: hostInvite},
		{path: "host list", args: "[COMPUTER]", about: "List the computers, who may use them, and which are online.", max: 1, list: true, flags: plain(hostList), more: hostHelp},
		{path: "host remove", args: "COMPUTER", about: "Forget a computer, and end its sessions now. To come back it must be invited again.", min: 1, max: 1, more: hostHelp,
			flags: plain(func(k *call) error {
				h, err := k.relay().RemoveHost(k, k.args[0])
				if err != nil {
					return err
				}
				k.note("%s of %s is removed", h.Name, h.Owner)
				return nil
			})},
		{path: "host rename", args: "COMPUTER NAME", about: "Give a computer another name.", min: 2, max: 2, more: hostHelp,
			flags: plain(func(k *call) error {
				h, err := k.relay().RenameHost(k, k.args[0], k.args[1])
				if err != nil {
					return err
				}
				k.note("%s of %s is now called %s", h.Name, h.Owner, k.args[1])
				return nil
			})},
		{path: "host share", args: "COMPUTER EMAIL manage|control|watch|none [--for DURATION | --until TIME]", about: "Give another account a right to a computer, or take it.", min: 3, max: 3,
			more:  "DURATION is as in 90m, 8h or 7d; TIME as in 2026-12-31T18:00 (local) or 2026-12-31T18:00:00Z. Without either the right stays.\n" + hostHelp,
			flags: hostShare},
	}
}

func hostInvite(f *flag.FlagSet) func(*call) error {
	name := f.String("name", "", "")
	return func(k *call) error {
		v, err := k.relay().Invite(k, k.args[0], *name)
		if err != nil {
			return err
		}
		k.note("Run this on the computer as root, before %s; it works once:", v.Expires.Local().Format("15:04"))
		_, err = fmt.Fprintf(k.stdout, "hostd enroll %s\n", v.Token)
		return err
	}
}

func hostList(k *call) error {
	all, err := k.relay().Hosts(k, k.arg(0))
	if err != nil {
		return err
	}
	return table(k, all, "OWNER NAME STATE SEEN SHARED ID", func(h admin.Host) []string {
		state, seen := "offline", "never"
		if h.Online {
			state, seen = "online", "now"
		} else if h.LastSeen != nil {
			seen = date(*h.LastSeen)
		}
		var shares []string
		for _, s := range h.Shares {
			text := s.Email + ":" + s.Right.String()
			if !s.Expires.IsZero() {
				text += " until " + date(s.Expires)
			}
			shares = append(shares, text)
		}
		return []string{h.Owner, h.Name, state, seen, strings.Join(shares, ", "), h.ID}
	})
}

func hostShare(f *flag.FlagSet) func(*call) error {
	duration := f.String("for", "", "")
	until := f.String("until", "", "")
	return func(k *call) error {
		var right registry.Right
		if err := right.UnmarshalText([]byte(k.args[2])); err != nil {
			return wrongUsage("%v", err)
		}
		expires, err := ends(*duration, *until, time.Now())
		if err != nil {
			return err
		}
		h, err := k.relay().ShareHost(k, k.args[0], k.args[1], right, expires)
		if err != nil {
			return err
		}
		switch {
		case right == registry.RightNone:
			k.note("%s has no right to %s any more", k.args[1], h.Name)
		case expires.IsZero():
			k.note("%s may %s %s", k.args[1], right, h.Name)
		default:
			k.note("%s may %s %s until %s", k.args[1], right, h.Name, date(expires))
		}
		return nil
	}
}

// ends is when a right ends; zero: never.
func ends(duration, until string, now time.Time) (time.Time, error) {
	switch {
	case duration != "" && until != "":
		return time.Time{}, wrongUsage("give --for or --until, not both")
	case duration != "":
		text, days := strings.CutSuffix(duration, "d")
		if days {
			text += "h"
		}
		d, err := time.ParseDuration(text)
		if days {
			d *= 24
		}
		if err != nil || d <= 0 {
			return time.Time{}, wrongUsage("%q is not a duration; write it as in 90m, 8h or 7d", duration)
		}
		return now.Add(d), nil
	case until != "":
		for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02"} {
			if t, err := time.ParseInLocation(layout, until, time.Local); err == nil {
				return t, nil
			}
		}
		t, err := time.Parse(time.RFC3339, until)
		if err != nil {
			return time.Time{}, wrongUsage("%q is not a time; write it as in 2026-12-31T18:00", until)
		}
		return t, nil
	}
	return time.Time{}, nil
}
