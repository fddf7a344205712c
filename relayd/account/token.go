package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/store"
)

// Limits of tokens.
const (
	MaxTokens    = 20 // of one account
	MaxTokenName = 60 // bytes
	MaxTokenTime = 366 * 24 * time.Hour
	tokenPrefix  = "hlt_" // by which people, and programs that look for secrets, know one
	maxToken     = 128    // bytes of what is sent as one
	usedEvery    = time.Minute
)

// A Token lets a program use the API in the name of an account. What ends the account's sessions, as another password does, ends
// it, too.
type Token struct {
	ID      string    `json:"id"` // by which it is removed
	Name    string    `json:"name"`
	Full    bool      `json:"full"`  // it may change things
	Admin   bool      `json:"admin"` // it may what administrators may, as long as the account is one
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Used    time.Time `json:"used,omitzero"`    // to a minute; zero: never
	Source  string    `json:"source,omitempty"` // address that used it last
	secret  [32]byte
}

// NewToken makes a token for a, which nobody can read again.
func (s *Service) NewToken(ctx context.Context, a *Account, t Token) (secret string, err error) {
	t.Name = strings.TrimSpace(t.Name)
	now := time.Now()
	switch {
	case t.Name == "" || len(t.Name) > MaxTokenName || t.Name != refuse.Printable(t.Name, MaxTokenName):
		return "", errors.New("a token has a name of at most 60 characters, which says what it is for")
	case t.Admin && !a.Admin:
		return "", errors.New("only an administrator makes a token for administrators' pages")
	case !t.Expires.After(now) || t.Expires.After(now.Add(MaxTokenTime)):
		return "", errors.New("a token is good for a year at most")
	}
	secret = tokenPrefix + rand.Text() + rand.Text()
	return secret, s.store.AddToken(ctx, store.Token{
		Secret: sha256.Sum256([]byte(secret)), Account: a.ID, Generation: a.generation, ID: rand.Text()[:16],
		Name: t.Name, Full: t.Full, Admin: t.Admin, Created: now, Expires: t.Expires,
	}, MaxTokens)
}

// Tokens are those of an account, the oldest first.
func (s *Service) Tokens(ctx context.Context, a *Account) ([]Token, error) {
	rows, err := s.store.Tokens(ctx, a.ID, time.Now())
	var all []Token
	for _, r := range rows {
		all = append(all, token(r))
	}
	return all, err
}

func token(r store.Token) Token {
	return Token{r.ID, r.Name, r.Full, r.Admin, r.Created, r.Expires, r.Used, r.Source, r.Secret}
}

// RemoveToken takes a token from an account.
func (s *Service) RemoveToken(ctx context.Context, a *Account, id string) error {
	err := s.store.RemoveToken(ctx, a.ID, id)
	if errors.Is(err, store.ErrNotFound) {
		err = store.Tell(store.ErrNotFound, "there is no such token, or no more")
	}
	return err
}

// ByToken says whose token it is: an account that is no administrator unless the token says so, too. A wrong one counts like a wrong
// password. Errors: refuse.SignIn, SlowDown, StorageOut, or ctx's.
func (s *Service) ByToken(ctx context.Context, secret string, src netip.Addr, door string) (*Account, *Token, error) {
	if err := s.budget.allow("", src); err != nil {
		s.refused(ctx, "", src, door, err)
		return nil, nil, err
	}
	if len(secret) > maxToken {
		secret = "" // nobody's
	}
	row, err := s.store.Token(ctx, sha256.Sum256([]byte(secret)), time.Now())
	if errors.Is(err, store.ErrNotFound) {
		if err := s.Failed(ctx, "", src, door); err != nil {
			return nil, nil, err
		}
		return nil, nil, refuse.SignIn.Of()
	}
	if err != nil {
		return nil, nil, err
	}
	a, err := s.Again(ctx, row.Account, row.Generation)
	if err != nil {
		return nil, nil, err
	}
	if now := time.Now(); now.Sub(row.Used) > usedEvery {
		if err := s.store.UsedToken(ctx, row.Secret, address(src), now); err != nil {
			return nil, nil, err
		}
	}
	a.Admin = a.Admin && row.Admin
	t := token(row)
	return a, &t, nil
}

// TokenHolds is refuse.SignIn when a token was removed or does not hold any more, or StorageOut.
func (s *Service) TokenHolds(ctx context.Context, t *Token) error {
	_, err := s.store.Token(ctx, t.secret, time.Now())
	if errors.Is(err, store.ErrNotFound) {
		err = refuse.SignIn.Of()
	}
	return err
}
