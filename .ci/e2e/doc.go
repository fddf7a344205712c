// Package e2e tries the whole of Helmline with the programs that people have: real viewers, real X servers, stock OpenSSH,
// one network namespace for each party. "make test" runs it; by hand, as root:
//
//	go test ./.ci/e2e -run TestTigerVNC -v
//
// # A test
//
//	func TestSomething(t *testing.T) {
//		w := NewWorld(t, Options{})                 // relay, computer, desktop, account; the computer is online
//		d := w.Furnish()                            // windows, a photograph, a terminal that writes to a file
//		v := w.TigerVNC("")                         // stock vncviewer on a screen of its own; "" or "/watch" or "/take"
//		v.LogIn()                                   // types the access code into the form
//		v.WaitEqual(w.Desk)                         // pixel for pixel
//		v.Type("hello\n")
//		d.WaitTyped("hello\n")
//	}
//
// A browser takes steps, which .ci/browser/drive.mjs lists, for any number of people and tabs:
//
//	b := w.Chromium(false)
//	b.SignIn("", Account, w.Password)
//	b.Do(step{"click": "a.name"}, step{"code": w.Code, "see": "Full screen", "look": "session"})
//
// # The parties
//
//	viewer 10.78.1.2 ── 10.78.1.1 relay 10.78.2.1 ── 10.78.2.2 host
//
// The relay does not route, so viewer and host cannot reach each other, and the host drops everything inbound. The relay's name is
// relay.helmline.test. relayd runs as a user of its own; hostd as root, its network part and the desktop's owner as two more users;
// viewers as another. All that NewWorld makes (processes, namespaces, users, folders) it removes at the end of the test.
//
// # When a test fails
//
// Logs of every program and pictures of every screen are kept in .ci/artefacts/NAME-OF-THE-TEST. Pictures of pages are in
// .ci/artefacts/shots/NAME-OF-THE-TEST, also when it passes.
//
// # Rules
//
// Nothing sleeps: wait for a condition with w.Until. No test is skipped: a program that is missing fails the run. No retry inside a test.
// Every process is started through w.Set (it knows them by their ids), and tests do not run in parallel: they use every processor, and
// the Set is the process's only one.
package e2e
