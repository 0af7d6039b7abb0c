// Exchanges the secret in a link for a cookie, and opens the page.
import { act } from "./api.js";

async function enter() {
  const secret = new URLSearchParams(location.hash.slice(1)).get("enter");
  if (!secret) return;
  history.replaceState(null, "", "/ui/");
  try {
    await act(["enter"], secret);
    location.reload();
  } catch (problem) {
    const said = document.getElementById("said");
    said.className = "bad";
    said.textContent = `${problem.message} This makes a new one:`;
  }
}

addEventListener("hashchange", enter);
enter();
