// A Channel is the WebSocket to a computer. Binary messages are RFB, which noVNC reads and writes; text messages are JSON words, of the
// relay: the first says whether the computer is reached, and a later one why the relay ends the session; or of the computer.
import { Refused, noRoute } from "./refusal.js";

const beat = 2000; // ms between two looks whether the relay and the computer answer
const relayTime = 7000; // ms that the relay has to answer before the connection is given up
const hostTime = 7000; // ms that the computer has to answer before the page says so

const cutOff = 4000; // status of a WebSocket that the page gives up: not an end in good order

export class Channel {
    // What noVNC sets and reads; it asks for own properties.
    binaryType = "arraybuffer";
    onopen = null;
    onmessage = null;
    onclose = null;
    onerror = null;
    protocol = "";
    readyState = "connecting";
    // The refusal that the relay ended the session with.
    refusal = null;
    // The security types that the computer offers.
    types = null;
    // Whether the person has done something since the relay was told, which keeps them signed in.
    active = false;
    // What the computer says of its log-in: code_first, nobody.
    facts = {};
    // Called with each word of the computer, and with what the relay says beside a pong.
    onword = () => {};
    // Called before noVNC hears of the end, which takes the picture away.
    onending = () => {};
    // Called with the round trip to the computer and back, in ms, or null while it does not answer.
    onlatency = () => {};

    // connect gives a channel on which RFB begins, or throws a Refused. A relay that does not answer within limit
    // milliseconds is given up. there is called when the relay is reached, and goes on to the computer.
    static connect(url, ticket, limit, there) {
        const channel = new Channel();
        const socket = channel.socket = new WebSocket(url);
        socket.binaryType = "arraybuffer";
        return new Promise((resolve, reject) => {
            const late = setTimeout(() => fail("the relay did not answer in time"), limit);
            const fail = detail => {
                clearTimeout(late);
                channel.close();
                reject(noRoute(detail));
            };
            socket.onopen = () => {
                there();
                socket.send(JSON.stringify({ ticket }));
            };
            socket.onerror = () => fail("the connection to the relay failed");
            socket.onclose = () => fail("the connection to the relay ended");
            socket.onmessage = e => {
                clearTimeout(late);
                const said = JSON.parse(e.data);
                if (said.refusal) {
                    socket.onclose = null;
                    reject(new Refused(said.refusal));
                    return;
                }
                channel.facts = said;
                channel.open();
                resolve(channel);
            };
        });
    }

    // open has what comes from now on wait until noVNC is there to hear it.
    open() {
        this.readyState = "open";
        const early = [];
        let head = [];
        this.socket.onerror = e => this.onerror?.(e);
        this.socket.onclose = e => this.ended(e);
        this.socket.onmessage = e => {
            if (typeof e.data === "string") {
                this.hear(JSON.parse(e.data));
                return;
            }
            if (head) {
                head.push(...new Uint8Array(e.data.slice(0, 300)));
                this.types = head.slice(13, 13 + head[12]); // behind the version; RFC 6143, section 7.1.2
                if (head.length >= 13 + head[12]) head = null;
            }
            if (this.onmessage) {
                this.onmessage(e);
            } else {
                early.push(e);
            }
        };
        this.start = () => early.splice(0).forEach(e => this.onmessage(e));
    }

    hear(word) {
        if (word.refusal) this.refusal = word.refusal;
        if (word.pong) this.asked = null;
        if (word.host?.pong && this.hostAsked) {
            this.onlatency(performance.now() - this.hostAsked);
            this.hostAsked = null;
        }
        this.onword(word);
    }

    // talk begins to ask whether the relay and the computer are still there.
    talk() {
        let n = 0;
        const look = () => {
            const now = performance.now();
            if (this.asked && now - this.asked > relayTime) {
                this.drop();
                return;
            }
            if (this.hostAsked && now - this.hostAsked > hostTime) this.onlatency(null);
            n++;
            if (!this.asked) {
                this.asked = now;
                this.say({ ping: n, active: this.active });
                this.active = false;
            }
            if (!this.hostAsked || now - this.hostAsked > hostTime) {
                this.hostAsked ||= now;
                this.say({ host: { ping: n } });
            }
        };
        look();
        this.beats = setInterval(look, beat);
    }

    say(word) {
        if (this.readyState === "open") this.socket.send(JSON.stringify(word));
    }

    send(data) {
        this.socket.send(data);
    }

    // drop gives the connection up, so that the computer keeps the session for a while.
    drop() {
        if (this.readyState !== "open") return;
        this.socket.onclose = this.socket.onmessage = this.socket.onerror = null;
        this.socket.close(cutOff);
        this.ended({ code: cutOff, reason: "", wasClean: false });
    }

    ended(e) {
        clearInterval(this.beats);
        this.readyState = "closed";
        this.onending();
        this.onclose?.(e);
    }

    close() {
        clearInterval(this.beats);
        if (this.readyState !== "closed") this.readyState = "closing";
        this.socket.close(1000);
    }
}
