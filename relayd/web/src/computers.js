// The list of computers, kept true without reload by what the relay tells.
import { when } from "./when.js";

const list = document.getElementById("list");
const blank = document.getElementById("row").content.firstElementChild;
const asks = document.getElementById("asks");
const blankAsk = document.getElementById("ask").content.firstElementChild;
const search = document.getElementById("search");
const none = document.getElementById("none");

// text is what a person reads of the state; the sign before it is the style sheet's.
function text(c) {
    switch (c.state) {
    case "online": return "Online";
    case "in use": return "In use";
    case "asleep": return `Asleep, since ${when(c.last_seen)}`;
    case "rebooting": return "Rebooting…";
    case "not accessible": return `Not accessible: ${c.barred === "doubled" ? "two machines come with its key" : "its hostd is of another version"}`;
    }
    const how = { stopped: "its host service was stopped", "shut down": "shut down" }[c.away] ?? "last seen";
    return c.last_seen ? `Offline, ${how} ${when(c.last_seen)}` : "Offline, last seen never";
}

function joined(c) {
    const all = c.joined ?? [];
    const what = role => role === "watch" ? "watching" : "in control or about to be";
    return all.map(j => `${j.account}, ${what(j.role)}, since ${when(j.since)}`).join("; ");
}

function fill(row, c) {
    const set = (name, text) => { const e = row.querySelector(name); if (e.textContent !== text) e.textContent = text; };
    const at = `/computers/${c.id}`;
    row.dataset.id = c.id;
    set(".name", c.name);
    row.querySelector(".name").href = at + (c.right === "watch" ? "/connect?role=watch" : "/connect");
    row.querySelector(".watch").href = at + "/connect?role=watch";
    row.querySelector(".about").href = at;
    set(".owner", c.owner === list.dataset.account ? "" : `of ${c.owner}`);
    set(".state", text(c));
    row.querySelector(".state").dataset.state = c.state;
    set(".joined", joined(c));
}

// showAsks are the sign-ins that wait to be approved.
function showAsks(all) {
    const shown = new Map([...asks.children].map(form => [form.dataset.id, form]));
    for (const a of all) {
        if (shown.delete(a.id)) continue;
        const form = blankAsk.cloneNode(true);
        form.dataset.id = form.elements.id.value = a.id;
        form.querySelector(".source").textContent = a.source;
        asks.append(form);
    }
    for (const form of shown.values()) form.remove();
}

function show({ hosts, signins }) {
    showAsks(signins ?? []);
    const rows = new Map([...list.children].map(row => [row.dataset.id, row]));
    hosts.forEach((c, i) => {
        const row = rows.get(c.id) ?? blank.cloneNode(true);
        rows.delete(c.id);
        fill(row, c);
        if (list.children[i] !== row) list.insertBefore(row, list.children[i] ?? null);
    });
    for (const row of rows.values()) row.remove();
    none.hidden = hosts.length > 0;
    narrow();
}

// narrow hides what does not have all words of the search.
function narrow() {
    const words = search.value.toLowerCase().split(/\s+/);
    for (const row of list.children) {
        const have = row.querySelector("div").textContent.toLowerCase();
        row.hidden = !words.every(word => have.includes(word));
    }
}

search.hidden = false;
search.addEventListener("input", narrow);
const events = new EventSource("/api/hosts/events");
events.onmessage = event => show(JSON.parse(event.data));
// An answer that is no stream ends it for good: not signed in any more, most likely.
events.onerror = () => { if (events.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 10000); };
