// A link may bring the code behind a #, which the browser sends to nobody: it goes into the form, and out of the address.
const code = decodeURIComponent(location.hash.slice(1));
if (code) {
    history.replaceState(null, "", location.pathname);
    document.getElementById("code").value = code;
    document.getElementById("ask").requestSubmit();
}
