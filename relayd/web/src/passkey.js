// Forms that take a passkey: data-ask says where the browser's options come from; what it answers goes into the field "credential".
const able = window.PublicKeyCredential?.parseCreationOptionsFromJSON && window.PublicKeyCredential.parseRequestOptionsFromJSON;

async function use(form) {
    const problem = form.querySelector(".error");
    problem.hidden = true;
    try {
        const got = await fetch(form.dataset.ask, { method: "POST" });
        if (!got.ok || got.redirected) throw new Error(got.redirected ? "Reload the page, and confirm that it is you." : await got.text());
        const options = await got.json();
        const made = form.dataset.make === undefined
            ? await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) })
            : await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) });
        form.elements.credential.value = JSON.stringify(made);
        form.submit();
    } catch (err) {
        problem.textContent = err.name === "NotAllowedError" ? "Nothing was chosen, or it took too long." :
            err.name === "InvalidStateError" ? "This one has a passkey of yours already." : err.message;
        problem.hidden = false;
    }
}

if (able) {
    for (const form of document.querySelectorAll("form[data-ask]")) {
        form.hidden = false;
        form.addEventListener("submit", event => {
            event.preventDefault();
            use(form);
        });
    }
}
