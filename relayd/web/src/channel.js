// A Channel is the WebSocket to a computer. Binary messages are RFB, which noVNC reads and writes; text messages are JSON and
// the relay's: the first says whether the computer is reached, and a later one why the relay ends the session.
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
                reject(new Refused({ code: 40007, title: "No answer", detail, remedy: "try again in some seconds" }));
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
        this.socket.onclose = e => {
            this.readyState = "closed";
            this.onclose?.(e);
        };
        this.socket.onmessage = e => {
            if (typeof e.data === "string") {
                this.refusal = JSON.parse(e.data).refusal;
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

    send(data) {
        this.socket.send(data);
    }

    close() {
        this.readyState = "closing";
        this.socket.close(1000);
    }
}

// Refused is why there is no session: number, title, detail and remedy, as in the relay's catalogue.
export class Refused extends Error {
    constructor(refusal) {
        super(`${refusal.code}: ${refusal.detail}; ${refusal.remedy}`);
        this.refusal = refusal;
    }
}
