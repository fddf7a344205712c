package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/relayd/registry"
)

// A Client talks to the relayd whose socket it was given.
type Client struct {
	path string
	http *http.Client
}

// timeout of one call: a new password may wait its turn for five seconds.
const timeout = 30 * time.Second

// NewClient makes a client of the relayd with the socket at path. It connects when it is used.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return &Client{path, &http.Client{Timeout: timeout, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// call runs one operation. Errors of the relay come back with its words.
func call[Result any](ctx context.Context, c *Client, op string, arg any) (result Result, err error) {
	body, err := json.Marshal(arg)
	if err != nil {
		return result, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://relayd/v1/"+op, bytes.NewReader(body))
	if err != nil {
		return result, err
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return result, fmt.Errorf(`relayd is not running: nobody answers at %s; start it with "relayd serve", or name its settings with --config`, c.path)
	case errors.Is(err, fs.ErrPermission):
		return result, fmt.Errorf("you may not use %s; run this as root", c.path)
	case err != nil:
		return result, fmt.Errorf("ask relayd at %s: %w", c.path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return result, fmt.Errorf("ask relayd at %s: %w", c.path, err)
	}
	if resp.StatusCode != http.StatusOK {
		var f failure
		if json.Unmarshal(text, &f) != nil || f.Error == "" {
			return result, fmt.Errorf("relayd at %s answered %s: is it another version?", c.path, resp.Status)
		}
		return result, errors.New(f.Error)
	}
	if err := json.Unmarshal(text, &result); err != nil {
		return result, fmt.Errorf("the answer of relayd at %s is not understood: %w", c.path, err)
	}
	return result, nil
}

func do(ctx context.Context, c *Client, op string, arg any) error {
	_, err := call[none](ctx, c, op, arg)
	return err
}

// Accounts are all accounts, by e-mail.
func (c *Client) Accounts(ctx context.Context) ([]Account, error) {
	return call[[]Account](ctx, c, opAccountList, none{})
}

// AddAccount makes an account.
func (c *Client) AddAccount(ctx context.Context, email string, password []byte, admin bool) (Account, error) {
	return call[Account](ctx, c, opAccountAdd, passwordArg{email, string(password), admin})
}

// DisableAccount keeps an account out and ends its sessions.
func (c *Client) DisableAccount(ctx context.Context, email string) error {
	return do(ctx, c, opAccountDisable, emailArg{email})
}

// EnableAccount lets an account in again.
func (c *Client) EnableAccount(ctx context.Context, email string) error {
	return do(ctx, c, opAccountEnable, emailArg{email})
}

// ResetFactors takes the second factor from an account and ends its sessions.
func (c *Client) ResetFactors(ctx context.Context, email string) error {
	return do(ctx, c, opFactorReset, emailArg{email})
}

// SetPassword replaces an account's password and ends its sessions.
func (c *Client) SetPassword(ctx context.Context, email string, password []byte) error {
	return do(ctx, c, opAccountPassword, passwordArg{Email: email, Password: string(password)})
}

// AddKey gives an account an SSH key, one line as in a .pub file.
func (c *Client) AddKey(ctx context.Context, email, line string) (Key, error) {
	return call[Key](ctx, c, opKeyAdd, keyArg{email, line})
}

// Keys are an account's SSH keys, oldest first.
func (c *Client) Keys(ctx context.Context, email string) ([]Key, error) {
	return call[[]Key](ctx, c, opKeyList, emailArg{email})
}

// RemoveKey takes a key away and ends the account's sessions.
func (c *Client) RemoveKey(ctx context.Context, email, fingerprint string) error {
	return do(ctx, c, opKeyRemove, keyArg{email, fingerprint})
}

// Invite makes a token for a new computer of an account; name may be empty.
func (c *Client) Invite(ctx context.Context, email, name string) (Invitation, error) {
	return call[Invitation](ctx, c, opHostInvite, inviteArg{email, name})
}

// Hosts are all computers, by owner and name; with a ref (UUID, OWNER/NAME or NAME), the one it names.
func (c *Client) Hosts(ctx context.Context, ref string) ([]Host, error) {
	return call[[]Host](ctx, c, opHostList, hostArg{Host: ref})
}

// RemoveHost forgets a computer, and ends its tunnels and sessions.
func (c *Client) RemoveHost(ctx context.Context, ref string) (Host, error) {
	return call[Host](ctx, c, opHostRemove, hostArg{Host: ref})
}

// RenameHost gives a computer another name.
func (c *Client) RenameHost(ctx context.Context, ref, name string) (Host, error) {
	return call[Host](ctx, c, opHostRename, hostArg{ref, name})
}

// ShareHost gives an account a right to a computer until expires (zero: for good), or with registry.RightNone takes it.
func (c *Client) ShareHost(ctx context.Context, ref, email string, right registry.Right, expires time.Time) (Host, error) {
	return call[Host](ctx, c, opHostShare, shareArg{ref, email, right, expires})
}

// Sessions are the live sessions, oldest first.
func (c *Client) Sessions(ctx context.Context) ([]SessionInfo, error) {
	return call[[]SessionInfo](ctx, c, opSessionList, none{})
}

// EndSession ends one session.
func (c *Client) EndSession(ctx context.Context, id string) error {
	return do(ctx, c, opSessionEnd, sessionArg{id})
}

// MakeCode makes a one-time code of an account for one of its computers.
func (c *Client) MakeCode(ctx context.Context, email, host string, watch bool) (Code, error) {
	return call[Code](ctx, c, opCode, codeArg{email, host, watch})
}

// Fingerprints are those of the keys that the relay uses now.
func (c *Client) Fingerprints(ctx context.Context) ([]Fingerprint, error) {
	return call[[]Fingerprint](ctx, c, opFingerprint, none{})
}
