// Package desktop is hostd-net: the part of hostd that faces the network and has no privilege. It keeps the tunnel to the
// relay, speaks RFB with viewers, draws the log-on form and encodes the desktop for any number of viewers from one
// capture. What it may show and who may type is decided by hostd, at the other end of Config.Monitor.
//
//	Run ── server     hear.go: what hostd says; run.go: the tunnel; entry.go: a viewer comes, with or without RFB's security
//	  session         session.go, logon.go, control.go: one viewer from the form to the desktop; input.go, clipboard.go: what it sends
//	  viewer          viewer.go, send.go, compose.go: what it is sent, as layers: pages, cursor, desktop
//	  desk, picture   the desktop's frame memory, a turnstile between the worker that fills it and viewers that encode
//	  recording       recording.go, reel.go: a watcher that keeps what a desk shows in files
//	  cache           encodings of a frame, made once for all viewers of one format
package desktop
