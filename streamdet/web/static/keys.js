// Single-key shortcuts; never while somebody types, and they can be switched off.
import { $ } from "./format.js";

export function shortcuts(actions) {
  const dialog = $("keys-dialog");
  $("keys").addEventListener("click", () => dialog.showModal());
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat && event.key !== "j" && event.key !== "k") return;
    const typing = event.target.closest?.('input:not([type="checkbox"]):not([type="range"]), textarea, select, [contenteditable]');
    if (typing || document.querySelector("dialog[open]") || !$("keys-on").checked) return;
    const action = { "?": () => dialog.showModal(), ...actions }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
