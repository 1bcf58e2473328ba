// Before the first paint, so that a dark page never flashes white.
{
  const wanted = (() => {
    try {
      return localStorage.getItem("streamdet.theme");
    } catch {
      return null; // storage may be forbidden; the theme then follows the system
    }
  })();
  if (wanted === "light" || wanted === "dark") document.documentElement.dataset.theme = wanted;
}
