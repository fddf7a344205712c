package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/helmline/helmline/relayd/audit"
)

func auditVerify() command {
	return command{
		path: "audit verify", about: "Check that the audit log is whole: nothing changed, taken out, moved or cut off.", list: true,
		more:  "It reads the log itself, whether relayd runs or not. Compare the key's fingerprint, and the last checkpoint, with copies kept elsewhere:\nrelayd writes each checkpoint into its own log. Exit code 1: something is wrong with it.",
		flags: plain(verifyAudit),
	}
}

func verifyAudit(k *call) error {
	r, err := audit.Verify(filepath.Join(k.settings.StateDir, auditDir))
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	bad := len(r.Problems) + r.More
	if k.json {
		err = k.printJSON(r)
	} else {
		for _, p := range r.Problems {
			k.note("%s", p)
		}
		if r.More > 0 {
			k.note("and %d more", r.More)
		}
		whole := "whole"
		if bad > 0 {
			whole = "BROKEN"
		}
		_, err = fmt.Fprintf(k.stdout, "audit log %s: %d records, %d checkpoints, sealed up to record %d of %d\nkey %s\n", whole, r.Records, r.Checkpoints, r.Sealed, r.Last, r.Key)
		if r.Torn > 0 {
			k.note("relayd was killed %d times in the middle of a record; each is marked", r.Torn)
		}
	}
	if err == nil && bad > 0 {
		err = errors.New("the audit log is not what relayd wrote; keep it, and compare it with your copies")
	}
	return err
}
