// Light and dark: as the system has it, until the reader chooses.

const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
let chosenTheme = null;

function isDark() {
  return chosenTheme ? chosenTheme === "dark" : prefersDark.matches;
}

function applyTheme() {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  find("theme").textContent = isDark() ? "Light colours" : "Dark colours";
  change({ theme: state.theme + 1 });
}

function theme() {
  find("theme").addEventListener("click", () => {
    chosenTheme = isDark() ? "light" : "dark";
    applyTheme();
  });
  prefersDark.addEventListener("change", applyTheme);
  applyTheme();
}
