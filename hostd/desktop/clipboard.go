package desktop

import (
	"bytes"
	"strings"

	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/hostd/ipc"
)

// clipRate is how many texts and announcements a client may send a second; more wait, and with them what comes behind.
const clipRate = 5

// A clip is what a viewer's client is told of clipboards. It is guarded by viewer.mu.
type clip struct {
	text  []byte // of the desktop, for who had control when it was copied; never changed but replaced
	epoch uint64 // of that control
	offer bool   // the client has a text that nobody has asked for yet
	caps  bool   // the client is to be told what can be done
	due   rfb.ClipMessage
}

// CutText keeps the first line for a form, to be pasted into a field; else it goes to the desktop's clipboard.
func (r *reader) CutText(text []byte) error {
	if err := wait(r.ctx, r.clips); err != nil {
		return err
	}
	return r.pasted(rfb.FromLatin1(text))
}

// Clipboard is the extension: the client announces a text, and sends it when it is asked to.
func (r *reader) Clipboard(m rfb.ClipMessage) error {
	if err := wait(r.ctx, r.clips); err != nil {
		return err
	}
	text := m.Formats&rfb.ClipText != 0
	switch m.Action {
	case rfb.ClipNotify:
		p := r.s.prompt.Load()
		r.s.view.offers(text, p != nil && p.form || r.s.mayPaste())
	case rfb.ClipProvide:
		if text && m.Text != nil {
			return r.pasted(m.Text)
		}
	case rfb.ClipPeek, rfb.ClipRequest:
		r.s.view.wantsClip(m.Action, text)
	}
	return nil
}

// pasted takes a text of the client.
func (r *reader) pasted(text []byte) error {
	if p := r.s.prompt.Load(); p != nil && p.form {
		r.keep(text)
		return nil
	}
	r.keep(nil)
	epoch := r.s.epoch.Load()
	if text = bytes.ToValidUTF8(text, []byte("\uFFFD")); !r.s.mayPaste() || len(text) == 0 || len(text) > ipc.MaxClip {
		return nil
	}
	c := ipc.Clip{Session: r.s.number, Epoch: epoch, Text: text}
	return r.s.srv.monitor.conn.SendPacket(c.AppendTo(nil, ipc.TypePaste))
}

// keep keeps the first line of a text, as much of it as a field takes.
func (r *reader) keep(text []byte) {
	clear(r.clip[:cap(r.clip)])
	r.clip = r.clip[:0]
	for _, c := range strings.ToValidUTF8(string(text), "") {
		if c == '\n' || c == '\r' || len(r.clip)+len(string(c)) > cap(r.clip) {
			break
		}
		r.clip = append(r.clip, string(c)...)
	}
}

// mayPaste says whether the client's texts are for the desktop; hostd has the last word.
func (s *session) mayPaste() bool {
	return s.epoch.Load() != 0 && s.srv.welcomed().Clipboard.ToHost
}

// offers notes whether the client has a text, and asks for it if it is wanted now.
func (v *viewer) offers(has, wanted bool) {
	v.mu.Lock()
	v.clip.offer = has && !wanted
	v.mu.Unlock()
	if has && wanted {
		v.reply(rfb.AppendClipboard(nil, rfb.ClipRequest, rfb.ClipText))
	}
}

// takeOffer asks for a text that the client had before it got control.
func (v *viewer) takeOffer() {
	v.mu.Lock()
	offered := v.clip.offer
	v.mu.Unlock()
	if offered {
		v.offers(true, true)
	}
}

// tellClip takes a text of the desktop, for the control of that epoch. The client is told of it, or gets it if that is all it knows.
func (v *viewer) tellClip(text []byte, epoch uint64) {
	if v.control.Load() != epoch {
		return
	}
	v.mu.Lock()
	v.clip.text, v.clip.epoch = text, epoch
	v.clip.due = rfb.ClipMessage{Action: rfb.ClipProvide}
	if v.caps.ExtendedClipboard {
		v.clip.due = rfb.ClipMessage{Action: rfb.ClipNotify, Formats: rfb.ClipText}
	}
	v.mu.Unlock()
	v.wakeUp()
}

// wantsClip has the client told whether there is a text, or given the text.
func (v *viewer) wantsClip(action uint32, text bool) {
	v.mu.Lock()
	v.clip.due = rfb.ClipMessage{Action: rfb.ClipNotify, Formats: rfb.ClipText}
	if action == rfb.ClipRequest && text {
		v.clip.due = rfb.ClipMessage{Action: rfb.ClipProvide, Formats: rfb.ClipText}
	}
	v.mu.Unlock()
	v.wakeUp()
}

// takeClip gives what of the clipboard is to be sent; Action 0 is nothing. Without control there is no text. v.mu is held.
func (v *viewer) takeClip() rfb.ClipMessage {
	m := v.clip.due
	switch {
	case v.clip.caps:
		v.clip.caps = false
		return rfb.ClipMessage{Action: rfb.ClipCaps}
	case m.Action == 0:
		return m
	}
	v.clip.due = rfb.ClipMessage{}
	if epoch := v.control.Load(); epoch == 0 || epoch != v.clip.epoch {
		v.clip.text = nil
	}
	if m.Text = v.clip.text; m.Text == nil {
		m.Formats = 0
		if m.Action == rfb.ClipProvide {
			m.Action = 0
		}
	}
	return m
}

// writeClip writes what takeClip gave.
func (v *viewer) writeClip(m rfb.ClipMessage) error {
	switch {
	case m.Action == 0:
		return nil
	case m.Action == rfb.ClipCaps:
		return v.write(rfb.AppendClipboardCaps(v.send.head[:0]))
	case m.Action == rfb.ClipNotify:
		return v.write(rfb.AppendClipboard(v.send.head[:0], m.Action, m.Formats))
	case m.Formats != 0:
		return v.write(rfb.AppendClipboardText(nil, m.Text))
	}
	return v.write(rfb.AppendServerCutText(nil, rfb.Latin1(string(m.Text))))
}
