package main

import (
	"flag"
	"fmt"

	"github.com/helmline/helmline/relayd/admin"
)

func sessionCommands() []command {
	return []command{
		{path: "session list", about: "List the live sessions.", list: true, flags: plain(sessionList)},
		{path: "session end", args: "ID", about: "End a session now.", min: 1, max: 1, flags: plain(func(k *call) error {
			if err := k.relay().EndSession(k, k.args[0]); err != nil {
				return err
			}
			k.note("session %s ends now", k.args[0])
			return nil
		})},
		{path: "code", args: "EMAIL COMPUTER [--watch]", about: "Print a one-time code that stands for an account's sign-in, for viewers that cannot send a user name.", min: 2, max: 2, list: true,
			more: "Type it as the password at the code door, or where a viewer asks for one behind the SSH door. It works once, within two minutes, and\nreplaces the sign-in only: the computer still asks for its own.", flags: codeMake},
		{path: "fingerprint", about: "Print the fingerprints of the relay's keys.", list: true, flags: plain(fingerprintList)},
	}
}

func sessionList(k *call) error {
	all, err := k.relay().Sessions(k)
	if err != nil {
		return err
	}
	return table(k, all, "ID ACCOUNT COMPUTER ROLE DOOR VIEWER SINCE", func(s admin.SessionInfo) []string {
		return []string{s.ID, s.Account, s.Computer, s.Role, s.Door, s.Viewer, date(s.Since)}
	})
}

func codeMake(f *flag.FlagSet) func(*call) error {
	watch := f.Bool("watch", false, "")
	return func(k *call) error {
		c, err := k.relay().MakeCode(k, k.args[0], k.args[1], *watch)
		if err != nil {
			return err
		}
		if k.json {
			return k.printJSON(c)
		}
		k.note("For one %s session on %s, until %s. Type it as the password at the code door:", c.Role, c.Computer, c.Expires.Local().Format("15:04:05"))
		_, err = fmt.Fprintln(k.stdout, c.Code)
		return err
	}
}

func fingerprintList(k *call) error {
	all, err := k.relay().Fingerprints(k)
	if err != nil {
		return err
	}
	return table(k, all, "WHAT TYPE FINGERPRINT", func(p admin.Fingerprint) []string {
		return []string{p.What, p.Type, p.Hash}
	})
}
