// The session page: reaches the computer, has the person log in to it, and shows its desktop with a bar above.
import RFB from "@novnc/novnc";
import { Bar } from "./bar.js";
import { Channel, Refused } from "./channel.js";
import { Memory, fingerprints } from "./pin.js";

const $ = id => document.getElementById(id);
const page = $("session").dataset; // computer, name, role, and the refusal of a computer that no browser may come to
const memory = new Memory(page.computer);
const reachTime = 25000; // ms; the relay itself gives the computer 10 s

// What a computer says no to, but may say yes to when something else is typed.
const typedWrong = new Set([1326, 1327, 1328, 1330, 1331, 1909, 5]);

let run = null; // the attempt or session that the page shows; what an earlier one still says is not heard

// An Attempt is one connection, from its WebSocket to its end.
class Attempt {
    // typed is what the person has typed for an earlier attempt, null when they are still to be asked.
    constructor(typed) {
        this.typed = typed;
        this.user = typed?.username;
        this.approved = false; // the key that the computer has shown
        this.ended = false;
    }

    get current() { return run === this; }

    async begin() {
        connecting("Contacting the relay…");
        const way = `/computers/${encodeURIComponent(page.computer)}`;
        const url = new URL(way + "/rfb", location.href);
        url.protocol = "wss:";
        try {
            const ticket = await askTicket(way + "/ticket");
            if (!this.current || !ticket) return;
            this.channel = await Channel.connect(url, ticket, reachTime, () => this.current && connecting("Reaching the computer…"));
            if (!this.current) return this.channel.close();
            connecting(this.typed ? "Logging in…" : "Waiting for the computer's own log-in…");
            this.rfb = new RFB($("screen"), this.channel, { shared: true });
        } catch (e) {
            if (this.current) refuse(e instanceof Refused ? e.refusal : broken(e.message));
            return;
        }
        const on = (event, f) => this.rfb.addEventListener(event, e => this.current && f(e.detail));
        on("serververification", d => this.verify(d.publickey));
        on("credentialsrequired", d => this.ask(d.types));
        on("securityfailure", d => this.refused(d.reason ?? "the computer did not accept the log-in"));
        on("connect", () => this.connected());
        on("disconnect", () => this.disconnected());
        on("clipboard", d => bar.copied(d.text));
        on("desktopname", d => { document.title = d.name || page.name; });
        this.rfb.viewOnly = page.role === "watch";
        this.channel.start();
    }

    // verify compares the key that the computer shows with the one that it showed before. No secret leaves this page before.
    async verify(key) {
        this.key = await fingerprints(key);
        if (!this.current) return;
        if (memory.pin && memory.pin !== this.key.pin) {
            show("changed");
            $("changed-key").textContent = this.key.short;
            return;
        }
        this.approve();
    }

    approve() {
        this.approved = true;
        this.rfb.approveServer();
    }

    trust() {
        memory.keep({ pin: this.key.pin });
        if (this.ended) return start(null);
        connecting("Waiting for the computer's own log-in…");
        this.approve();
    }

    // ask has the person log in. noVNC knows ways to log in that are no secret to the relay; nothing is typed into those.
    ask(types) {
        if (!this.approved) {
            refuse(broken("the computer wants a log-in that is not encrypted to its key"));
            this.ended = true;
            this.rfb.disconnect();
            return;
        }
        if (this.typed) {
            this.rfb.sendCredentials(this.typed);
            this.typed = null; // nothing typed is kept beyond the connection that it is for
            return;
        }
        $("code-link").hidden = !types.includes("username");
        askFor(types.includes("username"));
        $("key").textContent = this.key.short;
        $("key-first").hidden = Boolean(memory.pin);
        $("user").value ||= memory.user ?? "";
        askAgain("");
    }

    // submit logs in with what was typed, over a new connection when the computer has not waited.
    submit(username, password) {
        memory.keep({ pin: this.key.pin });
        this.user = username;
        if (this.ended) return start({ username, password });
        connecting("Logging in…");
        this.rfb.sendCredentials({ username, password });
    }

    refused(reason) {
        this.ended = true;
        const [, code, text] = /^(\d+): (.*)$/s.exec(reason) ?? [null, "0", reason];
        if (typedWrong.has(Number(code)) && this.key) {
            askAgain(reason);
            return;
        }
        const [detail, remedy] = text.split(/; (?!.*; )/);
        refuse({ code: Number(code), title: "Not let in", detail, remedy: remedy ?? "" });
    }

    connected() {
        this.since = Date.now();
        if (this.user) memory.keep({ user: this.user });
        bar.attach(this.rfb);
        show("desk");
        this.rfb.focus();
    }

    // shut is the refusal when the computer does not offer RA2ne: it only takes viewers that encrypt the whole session.
    shut() {
        return this.channel.types && !this.channel.types.includes(6) ? JSON.parse(page.e2e) : null;
    }

    disconnected() {
        const before = this.ended;
        this.ended = true;
        if (this.since) {
            end(this.since, this.channel.refusal);
        } else if (!before && $("login").hidden && $("changed").hidden) {
            refuse(this.channel.refusal ?? this.shut() ?? broken("the computer ended the connection"));
        }
    }
}

// askTicket gives what the WebSocket is opened with. Who is not signed in any more goes to do that, and comes back.
async function askTicket(url) {
    const got = await fetch(url, { method: "POST", body: new URLSearchParams({ role: page.role }), signal: AbortSignal.timeout(reachTime) });
    if (got.status === 401) {
        location.reload();
        return null;
    }
    if (!got.ok) throw new Error(await got.text());
    return (await got.json()).ticket;
}

const broken = detail => ({ code: 40007, title: "Not reached", detail, remedy: "try again in some seconds" });

function start(typed) {
    run?.rfb?.disconnect();
    run = new Attempt(typed);
    run.begin();
}

// show shows one part of the page and hides the others.
function show(part) {
    for (const s of document.querySelectorAll("#session > section")) s.hidden = s.id !== part;
    $(part).querySelector("h1")?.focus();
}

function connecting(step) {
    if ($("connecting").hidden) show("connecting");
    $("step").textContent = step;
}

// askFor has the form ask for a user name and password, or for the access code.
function askFor(user) {
    $("user-row").hidden = !user;
    $("which").textContent = user
        ? "Type the user name and password that you would type sitting at it."
        : "Type the access code that was chosen when the host software was installed.";
    $("secret-label").textContent = user ? "Password" : "Computer Access Code";
    $("code-link").textContent = user ? "Use the access code instead" : "Use a user name instead";
}

function askAgain(error) {
    show("login");
    $("login-error").textContent = error;
    $("login-error").hidden = !error;
    $("secret").value = "";
    ($("user-row").hidden || $("user").value ? $("secret") : $("user")).focus();
}

function refuse(r) {
    show("refused");
    $("refused-title").textContent = r.code ? `${r.code}: ${r.title}` : r.title;
    $("refused-detail").textContent = r.detail;
    $("refused-remedy").textContent = r.remedy;
    $("offer").hidden = ![40010, 40011, 40012, 40015].includes(r.code);
}

function end(since, refusal) {
    if (document.fullscreenElement) document.exitFullscreen();
    document.title = page.name;
    show("ended");
    const s = Math.round((Date.now() - since) / 1000);
    const parts = [[Math.floor(s / 3600), "h"], [Math.floor(s / 60) % 60, "min"], [s % 60, "s"]];
    $("duration").textContent = parts.filter(([n, unit]) => n || unit === "s").map(p => p.join(" ")).join(" ");
    $("reason").textContent = refusal ? new Refused(refusal).message : bar.left ? "You ended it." : "The connection ended.";
    bar.left = false;
}

const bar = new Bar($("bar"), () => run.rfb.disconnect());

$("login-form").addEventListener("submit", e => {
    e.preventDefault();
    const secret = $("secret").value;
    $("secret").value = "";
    run.submit($("user-row").hidden ? "" : $("user").value, secret);
});
$("code-link").addEventListener("click", () => {
    askFor($("user-row").hidden);
    $("secret").focus();
});
$("trust").addEventListener("click", () => run.trust());
for (const b of document.querySelectorAll(".again")) b.addEventListener("click", () => start(null));
// A page that the browser has kept aside comes back without its connection.
addEventListener("pageshow", e => e.persisted && start(null));
start(null);
