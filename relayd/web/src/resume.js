// How a page comes back to its session after a cut, without another log-in. With the log-in, which only the computer can read, it hands
// over a key; later it shows by a MAC that it has that key. Neither is ever seen by the relay.
const keySize = 32;
const longest = 255; // bytes of a password in RSA-AES

export class Pass {
    #key = crypto.getRandomValues(new Uint8Array(keySize));
    #count = 0;

    // secretWith is what is sent as the password, or null when that is too long for a key beside it.
    secretWith(secret) {
        const all = secret + "\0" + base64url(this.#key);
        return new TextEncoder().encode(all).length > longest ? null : all;
    }

    // proof is what is sent as the password to come back; it is another one each time.
    async proof() {
        const text = new TextEncoder().encode("helmline resume....");
        const count = text.subarray(-4);
        new DataView(count.buffer, count.byteOffset).setUint32(0, ++this.#count);
        const key = await crypto.subtle.importKey("raw", this.#key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
        const mac = new Uint8Array(await crypto.subtle.sign("HMAC", key, text));
        return "\0" + base64url([...count, ...mac]);
    }
}

const base64url = bytes => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
