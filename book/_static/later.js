// What a page of many parts can do later: for each part when it comes into view, and for all the
// others, in small steps, once the reader does anything. So a long page is there as soon as a short
// one, and the Tab key, a search in the page, and a printer still find it complete.
{
  const { mathjax } = document.currentScript.dataset; // its address, where the page has formulas
  const actions = ["keydown", "pointerdown", "pointermove", "scroll", "touchstart"];

  const inSteps = async (parts, work) => {
    while (parts.length) {
      await work(parts.splice(0, 4));
      await new Promise((done) => setTimeout(done)); // the page answers its reader in between
    }
  };

  const observe = (parts, work) => {
    const observer = new IntersectionObserver(
      (entries) => work(entries.filter((one) => one.isIntersecting).map((one) => one.target)),
      { rootMargin: "200px" },
    );
    parts.forEach((part) => observer.observe(part));
    const acted = new AbortController();
    const all = () => {
      acted.abort();
      work([...parts]);
    };
    for (const action of actions) {
      addEventListener(action, all, { passive: true, signal: acted.signal });
    }
  };

  // Formulas. MathJax comes with the first of them.
  const load = () =>
    new Promise((done) => {
      window.MathJax = { ...window.MathJax, startup: { pageReady: async () => done() } };
      const script = document.createElement("script");
      script.src = mathjax;
      document.head.append(script);
    });
  const unset = new Set(document.querySelectorAll(".math"));
  const waiting = [];
  let setting = false;
  observe(unset, async (formulas) => {
    waiting.push(...formulas.filter((formula) => unset.delete(formula)));
    if (setting || !waiting.length) {
      return;
    }
    setting = true;
    if (!window.MathJax?.typesetPromise) {
      await load();
    }
    await inSteps(waiting, (some) => window.MathJax.typesetPromise(some));
    setting = false;
  });

  // The Tab key stops at what scrolls, so that the arrow keys can scroll it. The theme does the
  // same, but measures a whole page for it, each time that a part changes.
  const boxes = document.querySelectorAll(
    "pre, .cell_output > .output, .pst-scrollable-table-container",
  );
  const measure = (box) => {
    const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    box.tabIndex = scrolls ? 0 : -1;
  };
  const measureAll = (some) => inSteps(some, (few) => few.forEach(measure));
  observe(boxes, measureAll);
  let resized;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => measureAll([...boxes]), 300);
  });
}
