// A link may bring the code behind a #, which the browser sends to nobody: it goes into the form, and out of the address.
function take() {
    const behind = location.hash.slice(1);
    if (!behind) return;
    history.replaceState(null, "", location.pathname);
    const damaged = document.getElementById("damaged");
    try {
        document.getElementById("code").value = decodeURIComponent(behind);
        damaged.hidden = true;
        document.getElementById("ask").requestSubmit();
    } catch { // half an escape
        damaged.hidden = false;
    }
}

addEventListener("hashchange", take); // another link, into the same tab
take();
