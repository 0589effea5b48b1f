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
});
