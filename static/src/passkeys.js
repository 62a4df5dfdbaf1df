/**
 * Passkeys on the pages of sign-in and account. A classic script: these pages load no modules.
 *
 * A form with `data-passkey` is submitted with the credential of its request: `create` and `get`
 * take the options from #passkey-data, `login` fetches them. Texts are in its `data-` attributes.
 */

/** @param {string} text */
function toBuffer(text) {
  const padded = text.replace(/-/g, "+").replace(/_/g, "/");
  return Uint8Array.from(atob(padded), (char) => char.charCodeAt(0)).buffer;
}

/** @param {ArrayBuffer | null} buffer */
function toText(buffer) {
  if (!buffer) {
    return null;
  }
  const binary = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(binary).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/**
 * Return the options with buffers instead of base64url texts.
 * @param {any} options
 */
function withBuffers(options) {
  const toCredential = (/** @type {any} */ one) => ({ ...one, id: toBuffer(one.id) });
  const found = { ...options, challenge: toBuffer(options.challenge) };
  if (options.user) {
    found.user = { ...options.user, id: toBuffer(options.user.id) };
  }
  for (const name of ["excludeCredentials", "allowCredentials"]) {
    if (options[name]) {
      found[name] = options[name].map(toCredential);
    }
  }
  return found;
}

/**
 * Return the credential as JSON, as the WebAuthn specification words it.
 * @param {any} credential
 */
function asJson(credential) {
  const { response } = credential;
  /** @type {Record<string, unknown>} */
  const sent = { clientDataJSON: toText(response.clientDataJSON) };
  for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (response[name]) {
      sent[name] = toText(response[name]);
    }
  }
  if (response.getTransports) {
    sent.transports = response.getTransports();
  }
  return JSON.stringify({
    id: credential.id,
    rawId: toText(credential.rawId),
    type: credential.type,
    authenticatorAttachment: credential.authenticatorAttachment ?? null,
    clientExtensionResults: credential.getClientExtensionResults(),
    response: sent,
  });
}

/** @param {HTMLFormElement} form */
async function ask(form) {
  if (form.dataset.passkey === "login") {
    const response = await fetch(form.action, {
      headers: { Accept: "application/json", "X-Requested-With": "XMLHttpRequest" },
    });
    if (!response.ok) {
      throw new Error(form.dataset.failed);
    }
    const data = await response.json();
    return navigator.credentials.get({ publicKey: withBuffers(data.request_options.publicKey) });
  }
  const data = JSON.parse(document.getElementById("passkey-data")?.textContent ?? "{}");
  if (form.dataset.passkey === "get") {
    return navigator.credentials.get({ publicKey: withBuffers(data.request_options.publicKey) });
  }
  const options = withBuffers(data.creation_options.publicKey);
  // Kept by the device where it can be, so that it signs in without a username.
  options.authenticatorSelection = {
    ...options.authenticatorSelection,
    requireResidentKey: false,
    residentKey: "preferred",
    userVerification: "preferred",
  };
  return navigator.credentials.create({ publicKey: options });
}

/**
 * Return why passkeys can't work on this page, if so. Browsers refuse addresses without a name.
 * @param {HTMLFormElement} form
 */
function obstacle(form) {
  const isAddress = /^[\d.]+$|^\[/.test(location.hostname);
  if (!window.isSecureContext || isAddress) {
    return form.dataset.insecure;
  }
  return "PublicKeyCredential" in window ? "" : form.dataset.unsupported;
}

/**
 * @param {HTMLFormElement} form
 * @param {string | undefined} text
 */
function showProblem(form, text) {
  let notice = form.querySelector(".notice");
  if (!notice) {
    notice = document.createElement("p");
    notice.className = "notice error";
    notice.setAttribute("role", "alert");
    form.append(notice);
  }
  notice.textContent = text ?? "";
}

/** @type {NodeListOf<HTMLFormElement>} */
const forms = document.querySelectorAll("form[data-passkey]");
for (const form of forms) {
  const button = form.querySelector("button");
  const field = /** @type {HTMLInputElement | null} */ (form.querySelector("[name=credential]"));
  const problem = obstacle(form);
  if (!button || !field) {
    continue;
  }
  if (problem) {
    // At sign-in it stays hidden: there are other ways.
    button.disabled = true;
    if (form.dataset.passkey !== "login") {
      showProblem(form, problem);
    }
    continue;
  }
  form.hidden = false;
  const submit = async () => {
    button.disabled = true;
    try {
      field.value = asJson(await ask(form));
      form.submit();
    } catch (error) {
      const name = error instanceof DOMException ? error.name : "";
      const { cancelled, failed, known } = form.dataset;
      showProblem(form, name === "InvalidStateError" ? known : name ? cancelled : failed);
      button.disabled = false;
    }
  };
  button.addEventListener("click", submit);
  form.addEventListener("submit", (event) => {
    // Enter in the field of the name.
    event.preventDefault();
    submit();
  });
}
