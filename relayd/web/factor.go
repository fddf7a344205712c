package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"

	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/audit"
)

// proofTime is how long a person who has proven who they are may change how they sign in.
const proofTime = 10 * time.Minute

// proven is whether that is so.
func (p *Person) proven() bool { return time.Since(p.Proved) < proofTime }

// forProven serves only who has proven lately who they are, and asks the others to do so first. Of a form that was sent too late
// nothing is kept.
func (s *Server) forProven(serve func(w http.ResponseWriter, r *http.Request, p *Person)) http.HandlerFunc {
	return s.forPerson(func(w http.ResponseWriter, r *http.Request, p *Person) {
		if p.proven() {
			serve(w, r, p)
			return
		}
		next := "/account"
		if r.Method == http.MethodGet {
			next = r.URL.RequestURI()
		}
		http.Redirect(w, r, "/account/confirm?next="+url.QueryEscape(next), http.StatusSeeOther)
	})
}

// A confirmation is the page that asks who is signed in to prove it once more.
type confirmation struct {
	Account *account.Account
	Code    bool // of the second factor, too
	Passkey bool // it has one
	Next    string
	Problem string
}

// askProof serves GET /account/confirm.
func (s *Server) askProof(w http.ResponseWriter, r *http.Request, p *Person) {
	s.showProof(w, r, http.StatusOK, p, nil)
}

func (s *Server) showProof(w http.ResponseWriter, r *http.Request, status int, p *Person, problem error) {
	a, err := s.People.ByEmail(r.Context(), p.Account.Email) // it may have got a second factor since the sign-in
	if err != nil {
		s.stored(w, p, err)
		return
	}
	f, err := s.People.Factors(r.Context(), a)
	if err != nil {
		s.stored(w, p, err)
		return
	}
	c := confirmation{Account: p.Account, Code: a.Factor, Passkey: len(f.Passkeys) > 0, Next: within(r.FormValue("next"))}
	if problem != nil {
		c.Problem = problem.Error()
	}
	s.look.show(w, r, status, "confirm.html", c)
}

// prove serves POST /account/confirm: the same as a sign-in, and the visit gets another secret as after one.
func (s *Server) prove(w http.ResponseWriter, r *http.Request, p *Person) {
	password := []byte(r.PostFormValue("password"))
	defer clear(password)
	src := viewer(r)
	_, half, err := s.People.Password(r.Context(), p.Account.Email, password, src, Door)
	if half != nil {
		_, err = s.People.SecondFactor(r.Context(), half, r.PostFormValue("code"), src, Door)
	}
	s.confirmed(w, r, p, err)
}

// confirmed goes on behind a proof, unless err says what is wrong with it.
func (s *Server) confirmed(w http.ResponseWriter, r *http.Request, p *Person, err error) {
	var secret string
	if err == nil {
		secret, err = s.visits.renew(r)
	}
	if err != nil {
		s.showProof(w, r, http.StatusForbidden, p, err)
		return
	}
	setCookie(w, secret)
	http.Redirect(w, r, within(r.PostFormValue("next")), http.StatusSeeOther)
}

// An authenticator is the page that sets one up.
type authenticator struct {
	Account *account.Account
	account.Setup
	Squares string // of the QR code, as an SVG path
	Size    int    // of its sides, with the quiet zone
	Problem string
}

// askAuthenticator serves GET /account/authenticator.
func (s *Server) askAuthenticator(w http.ResponseWriter, r *http.Request, p *Person) {
	s.showAuthenticator(w, r, http.StatusOK, p, nil)
}

func (s *Server) showAuthenticator(w http.ResponseWriter, r *http.Request, status int, p *Person, problem error) {
	a := authenticator{Account: p.Account, Setup: s.People.NewAuthenticator(p.Account, s.Name)}
	var err error
	if a.Squares, a.Size, err = qrPath(a.URI); err != nil {
		s.stored(w, p, err)
		return
	}
	if problem != nil {
		a.Problem = problem.Error()
	}
	s.look.show(w, r, status, "authenticator.html", a)
}

// A printed is the page of new recovery codes, which is shown once.
type printed struct {
	Account *account.Account
	Codes   []string
}

// addAuthenticator serves POST /account/authenticator.
func (s *Server) addAuthenticator(w http.ResponseWriter, r *http.Request, p *Person) {
	var codes []string
	err := s.alter(r, p, audit.Event{Kind: "account.factor.on", Account: p.Account.Email}, func(ctx context.Context) (err error) {
		codes, err = s.People.AddAuthenticator(ctx, p.Account, r.PostFormValue("code"))
		return err
	})
	if err != nil {
		s.showAuthenticator(w, r, http.StatusForbidden, p, err)
		return
	}
	s.visits.endOthers(p)
	s.look.show(w, r, http.StatusOK, "recovery.html", printed{p.Account, codes})
}

// newRecovery serves POST /account/recovery.
func (s *Server) newRecovery(w http.ResponseWriter, r *http.Request, p *Person) {
	var codes []string
	err := s.alter(r, p, audit.Event{Kind: "account.recovery", Account: p.Account.Email}, func(ctx context.Context) (err error) {
		codes, err = s.People.NewRecovery(ctx, p.Account)
		return err
	})
	if err != nil {
		s.mine(w, r, http.StatusForbidden, p, mine{Problem: err.Error()})
		return
	}
	s.look.show(w, r, http.StatusOK, "recovery.html", printed{p.Account, codes})
}

// removeAuthenticator serves POST /account/authenticator/remove.
func (s *Server) removeAuthenticator(w http.ResponseWriter, r *http.Request, p *Person) {
	err := s.alter(r, p, audit.Event{Kind: "account.factor.off", Account: p.Account.Email}, func(ctx context.Context) error {
		return s.People.RemoveAuthenticator(ctx, p.Account)
	})
	if err != nil {
		s.mine(w, r, http.StatusForbidden, p, mine{Problem: err.Error()})
		return
	}
	http.Redirect(w, r, "/account", http.StatusSeeOther)
}

// deviceCookie is by which a browser is known that does not ask for the second factor.
const deviceCookie = "__Host-helmline-device"

func deviceSecret(r *http.Request) string {
	c, err := r.Cookie(deviceCookie)
	if err != nil {
		return ""
	}
	return c.Value
}

// trust has the browser not ask again for some time, for an account that has just given its second factor. When that cannot be
// recorded it asks the next time, too.
func (s *Server) trust(w http.ResponseWriter, r *http.Request, a *account.Account) {
	e := audit.Event{Kind: "account.device.trust", Account: a.Email}
	err := s.alter(r, &Person{Account: a}, e, func(ctx context.Context) error {
		secret, err := s.People.Trust(ctx, a, r.UserAgent(), viewer(r))
		if err == nil {
			http.SetCookie(w, &http.Cookie{
				Name: deviceCookie, Value: secret, Path: "/", MaxAge: int(account.TrustTime.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
			})
		}
		return err
	})
	if err != nil {
		s.Log.Error("browser not trusted", "viewer", a.Email, "err", err)
	}
}

// distrust is the form that ends the trust in a browser.
func (s *Server) distrust(r *http.Request, p *Person) error {
	return s.alter(r, p, audit.Event{Kind: "account.device.remove", Account: p.Account.Email}, func(ctx context.Context) error {
		return s.People.Distrust(ctx, p.Account, r.PostFormValue("name"))
	})
}

// quiet is the white border of a QR code, in its squares: ISO/IEC 18004.
const quiet = 4

// qrPath draws a QR code: the dark squares as an SVG path, and the length of a side.
func qrPath(text string) (path string, side int, err error) {
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return "", 0, err
	}
	n := code.Bounds().Dx()
	var b strings.Builder
	for y := range n {
		for x := range n {
			if dark, _, _, _ := code.At(x, y).RGBA(); dark == 0 {
				fmt.Fprintf(&b, "M%d %dh1v1h-1z", x+quiet, y+quiet)
			}
		}
	}
	return b.String(), n + 2*quiet, nil
}
