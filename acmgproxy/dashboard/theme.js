// SPDX-License-Identifier: Apache-2.0
// Light or dark as chosen last, before the first pixel is drawn; without a choice the style sheet follows the system.
(() => {
  let theme = "";
  try { theme = localStorage.getItem("theme") ?? ""; } catch { /* storage may be forbidden */ }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
