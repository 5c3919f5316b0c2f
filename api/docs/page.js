// The document names the public address, for clients that are made from it. A browser that came by
// another name (localhost, a tunnel, a port that is forwarded) may not call that one: it is another
// origin. So "Try it out" goes to where this page came from, below a proxy's prefix too.
const here = new URL(".", location.href).href.replace(/\/$/, "");

const triedWhereThePageCameFrom = () => ({
  statePlugins: {
    spec: {
      wrapActions: {
        updateJsonSpec: (original) => (api) => original({ ...api, servers: [{ url: here }] }),
      },
    },
  },
});

SwaggerUIBundle({
  dom_id: "#swagger-ui",
  url: "openapi.json",
  plugins: [triedWhereThePageCameFrom],
  deepLinking: true, // each operation has an address
  persistAuthorization: false, // a key is forgotten with the page
  validatorUrl: null, // no other server validates the document
});
