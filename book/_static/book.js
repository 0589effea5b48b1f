// Roles that the theme leaves out, so that a screen reader can name these parts of a page.
document.addEventListener("DOMContentLoaded", () => {
  const sidebar = document.getElementById("pst-primary-sidebar");
  if (sidebar) {
    sidebar.setAttribute("role", "complementary");
    sidebar.setAttribute("aria-label", "Chapters and search");
  }
  for (const entry of document.querySelectorAll("[role=list] > .citation")) {
    entry.setAttribute("role", "listitem");
  }
  // On a phone the contents lie over the page: they close once a place is chosen.
  const contents = document.getElementById("pst-secondary-sidebar-modal");
  contents?.addEventListener("click", (event) => {
    if (event.target.closest("a")) {
      contents.close();
    }
  });
  // A result's excerpt shows the text, not the buttons above it, and not its list of headings.
  if (typeof Search !== "undefined") {
    const { htmlToText } = Search;
    Search.htmlToText = (html, anchor) => {
      const page = new DOMParser().parseFromString(html, "text/html");
      const text = page.querySelectorAll("article.bd-article");
      page.querySelector("[role=main]")?.replaceChildren(...text);
      return htmlToText(page.documentElement.outerHTML, anchor);
    };
  }
});
